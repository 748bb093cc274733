"""Textures whose edges meet: convolutions see the other side of the image. Import this only in the child."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from torch.nn import Conv2d
from torch.nn.functional import conv2d, pad

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: Parts whose convolutions pad what they see; transformers see no edges that padding could join.
PARTS = ("unet", "vae", "controlnet")
#: torch's own method, which `padding_mode` chooses in; it stays in place for whatever wraps `forward`.
METHOD = "_conv_forward"


class SeamlessEdges(RenderFeature):
    """`seamless` of a request: along x, y, or both. The convolutions are changed for one run."""

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where no padding joins the edges, or images are decoded in tiles."""
        if task.request.seamless is None:
            return
        if pipeline.components.get("unet") is None:
            message = f"{type(pipeline).__name__} has no convolutions that could join the edges of an image"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)
        if getattr(pipeline.components.get("vae"), "use_tiling", False):
            message = "a seamless image is decoded as a whole, and this model decodes in tiles for want of memory"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
        """Around a pass."""
        axes = context.request.seamless
        if axes is None:
            return proceed()
        parts = [pipeline.components.get(name) for name in PARTS]
        with joined([part for part in parts if isinstance(part, torch.nn.Module)], axes):
            return proceed()


@contextmanager
def joined(parts: list[torch.nn.Module], axes: str) -> Iterator[None]:
    """While inside, they pad with the other side along the axes, and with zeros along the others."""
    modules = [module for part in parts for module in part.modules()]
    changed: dict[Any, Callable[..., torch.Tensor]] = {
        each: _wrapped
        for each in modules
        if isinstance(each, Conv2d) and not isinstance(each.padding, str) and any(each.padding)
    }
    # An autoencoder that halves an image has padded it itself, with one line of zeros on the right and one below.
    changed |= {each.conv: _rewrapped for each in modules if isinstance(each, Downsample2D) and each.padding == 0}
    for convolution, method in changed.items():
        convolution.__dict__[METHOD] = partial(method, convolution, axes)
    try:
        yield
    finally:
        for convolution in changed:
            del convolution.__dict__[METHOD]


def _rewrapped(convolution: Any, axes: str, image: torch.Tensor, weight: torch.Tensor, bias: Any) -> torch.Tensor:
    """The same of an image whose last line and column are padding."""
    image = image.clone()
    if axes in ("x", "both"):
        image[..., -1] = image[..., 0]
    if axes in ("y", "both"):
        image[..., -1, :] = image[..., 0, :]
    return conv2d(image, weight, bias, convolution.stride, 0, convolution.dilation, convolution.groups)


def _wrapped(convolution: Any, axes: str, image: torch.Tensor, weight: torch.Tensor, bias: Any) -> torch.Tensor:
    """Shapes: (batch, channels, height, width) in and out. Any: torch declares padding as a text, too."""
    vertical, horizontal = convolution.padding
    image = pad(image, (horizontal, horizontal, 0, 0), mode=_mode(axes, "x"))
    image = pad(image, (0, 0, vertical, vertical), mode=_mode(axes, "y"))
    return conv2d(image, weight, bias, convolution.stride, 0, convolution.dilation, convolution.groups)


def _mode(axes: str, axis: str) -> str:
    return "circular" if axes in (axis, "both") else "constant"
