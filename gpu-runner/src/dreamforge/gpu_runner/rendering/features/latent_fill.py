"""Noise, or nothing, below a mask: the latents that a render starts from there. Import this only in the child."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch.nn.functional import interpolate

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.images import marked_anew
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.prepared_inputs import start_of
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: diffusers' own name in every inpainting pipeline: pixels in, latents out, scaled as the denoiser takes them.
ENCODE = "_encode_vae_image"
#: One, or one for each image of a run.
Generators = torch.Generator | list[torch.Generator]


class LatentFill(RenderFeature):
    """`mask_fill` noise and nothing of a request, in its first pass.

    Stands inside of whatever runs a pass twice: each run encodes the image anew.
    """

    def run(self, context: PassContext, pipeline: Any, proceed: RunPass) -> RenderedPixels:  # Any: each has a class
        """Errors: RenderFailed(invalid_request) where this pipeline does not encode images as the others do."""
        mask = _mask_of(context)
        if mask is None:
            return proceed()
        if not hasattr(pipeline, ENCODE):
            takes = "takes no latents of an image: mask_fill must be original or fill"
            raise RenderFailed(FailureReason.INVALID_REQUEST, f"{type(pipeline).__name__} {takes}")
        with _first_encoding_filled(pipeline, mask, with_noise=context.task.request.mask_fill == "noise"):
            return proceed()


def _mask_of(context: PassContext) -> Image.Image | None:
    """The mask below which something is filled in; None: nothing is, or all of it is noise anyway."""
    strength = context.current.strength
    if context.task.request.mask_fill not in ("noise", "nothing") or not context.is_first or strength in (None, 1):
        return None
    start = start_of(context.task, context.current.size_px)
    return start.mask if start else None


@contextmanager
def _first_encoding_filled(pipeline: Any, mask: Image.Image, *, with_noise: bool) -> Iterator[None]:
    """The first image that a pipeline encodes is what it starts from; the second is what the mask leaves of it."""
    encode = getattr(pipeline, ENCODE)

    def encode_first(image: torch.Tensor, generator: Generators) -> torch.Tensor:
        setattr(pipeline, ENCODE, encode)
        latents: torch.Tensor = encode(image, generator=generator)
        return filled(latents, mask, generator if with_noise else None)

    setattr(pipeline, ENCODE, encode_first)
    try:
        yield
    finally:
        delattr(pipeline, ENCODE)  # the pipeline's own method again


def filled(latents: torch.Tensor, mask: Image.Image, generator: Generators | None) -> torch.Tensor:
    """Latents that are noise of variance 1, or 0 without a generator, where the model renders anew.

    Shapes: latents (batch, channels, height, width); the mask is brought to them by the nearest pixel, as
    diffusers does.
    """
    anew = interpolate(marked_anew(mask)[None, None].float(), size=latents.shape[-2:]).to(latents)
    if generator is None:
        return latents * (1 - anew)
    noise: torch.Tensor = randn_tensor(latents.shape, generator=generator, device=latents.device, dtype=latents.dtype)
    return latents * (1 - anew) + noise * anew
