"""A second pass: the finished image is enlarged and rendered over at its new size. Import this only in the child.

In tiles it is a pass for each: one starts from the image that the others before it have left, so that what it shares
with them continues what they made of it.
"""

from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate, pad

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import Upscale
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.images import WHITE, as_image, enlarge, pasted
from dreamforge.gpu_runner.rendering.passes import Pass, PassContext, Tile
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.regions import Size
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.gpu_runner.rendering.upscalers import UpscalerCache

#: torch's names of what latents are enlarged by (A1111 1.10, modules/shared_init.py).
LATENT_METHODS: dict[str, dict[str, Any]] = {  # Any: keywords of `interpolate`
    "latent": {"mode": "bilinear"},
    "latent_smooth": {"mode": "bilinear", "antialias": True},
    "latent_bicubic": {"mode": "bicubic"},
    "latent_bicubic_smooth": {"mode": "bicubic", "antialias": True},
    "latent_nearest": {"mode": "nearest"},
    "latent_nearest_exact": {"mode": "nearest-exact"},
}
#: How much of the other side an image whose edges meet is enlarged with: more than Lanczos sees, and most of what a
#: network of the ESRGAN family makes of an edge. Latents are enlarged from two neighbours.
BEYOND_PX, BEYOND_LATENTS = 16, 4


class UpscalePass(RenderFeature):
    """`upscale` of a request; the last upscaler used stays in memory."""

    def __init__(self, device: torch.device) -> None:
        self._upscalers = UpscalerCache(device)
        #: Of the pass that runs: what it starts from, of a tile the whole image.
        self._start: Image.Image | None = None

    def plan(self, task: RenderTask, passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
        """One more pass, if there is to be one, or one for each tile."""
        if (upscale := task.request.upscale) is None:
            return passes
        whole = Pass("image", task.request.second_pass(upscale), upscale.strength, name="upscale")
        return (*passes, *(_tile_passes(whole, upscale) or (whole,)))

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:  # noqa: ARG002
        """Around a pass: of a tile comes the whole image with this tile in it. Errors: RenderFailed of an upscaler."""
        tile, previous = context.current.tile, context.previous
        if tile is None or previous is None:
            return proceed()
        self._start = whole = previous if tile.number else self._enlarged(context)
        try:
            rendered = proceed()
        finally:
            self._start = None
        if rendered.pixels is None:
            return rendered
        return replace(rendered, pixels=laid(rendered.pixels, whole, tile))

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:
        """What the pass before gave, at the size of this one. Errors: RenderFailed of an upscaler, or of latents."""
        upscale = context.task.request.upscale
        if context.previous is None or upscale is None:
            return {}
        if upscale.method in LATENT_METHODS:
            return {"image": _larger_latents(context, pipeline, upscale.method), "strength": context.current.strength}
        if context.current.tile is not None and self._start is not None:
            return {"image": self._start.crop(context.current.tile.box), "strength": context.current.strength}
        return {"image": self._enlarged(context), "strength": context.current.strength}

    def release(self) -> None:
        """Let the upscaler go."""
        self._upscalers.release()

    def _enlarged(self, context: PassContext) -> Image.Image:
        """What the pass before gave, at the size of the second. Errors: RenderFailed of an upscaler."""
        upscale = context.task.request.upscale
        assert upscale is not None, "such a pass has one"
        assert context.previous is not None, "and an image to start from"
        image, size_px = context.previous, (upscale.width_px, upscale.height_px)
        if (axes := context.request.seamless) is None:
            return self._larger(context.task, upscale, image, size_px)
        (left, wide), (upper, high) = _beyond(image.size, size_px, axes, BEYOND_PX)
        pixels = np.pad(np.array(image), ((upper, upper), (left, left), (0, 0)), mode="wrap")
        larger_px = size_px[0] + 2 * wide, size_px[1] + 2 * high
        larger = self._larger(context.task, upscale, as_image(pixels), larger_px)
        return larger.crop((wide, high, wide + size_px[0], high + size_px[1]))

    def _larger(self, task: RenderTask, upscale: Upscale, image: Image.Image, size_px: Size) -> Image.Image:
        if upscale.model_id is not None:
            image = self._upscalers.get(upscale.model_id, task.assets[upscale.model_id]).enlarged(image)
        if upscale.method == "nearest":
            return image.resize(size_px, Image.Resampling.NEAREST)
        return enlarge(image, width_px=size_px[0], height_px=size_px[1])


def _tile_passes(whole: Pass, upscale: Upscale) -> tuple[Pass, ...]:
    width_px, height_px = upscale.run_px
    size = {"width_px": width_px, "height_px": height_px}
    request = whole.request.model_copy(update=size)
    image_px, overlap_px = (upscale.width_px, upscale.height_px), upscale.tile_overlap_px or 0
    return tuple(
        replace(whole, request=request, tile=Tile(number, box, image_px, overlap_px))
        for number, box in enumerate(upscale.tiles)
    )


def laid(rendered: torch.Tensor, whole: Image.Image, tile: Tile) -> torch.Tensor:
    """The whole image with a tile in it, blended where it lies over the tiles before it: those left of it and above.

    Shapes: rendered is (height, width, 3) bytes of the tile; so are those of the whole image that come out.
    """
    left, upper, right, lower = tile.box
    down = _rise(lower - upper, tile.overlap_px if upper else 0)
    along = _rise(right - left, tile.overlap_px if left else 0)
    share = torch.minimum(down[:, None], along[None, :])
    mask = as_image((share * WHITE).round().to(torch.uint8).numpy())
    pixels = torch.from_numpy(np.array(whole))
    pixels[upper:lower, left:right] = pasted(rendered, whole.crop(tile.box), mask)
    return pixels


def _rise(length: int, overlap: int) -> torch.Tensor:
    """How much of a tile counts along one side: from little to all over the overlap."""
    if not overlap:
        return torch.ones(length)
    return ((torch.arange(length, dtype=torch.float32) + 0.5) / overlap).clamp(max=1.0)


def _larger_latents(context: PassContext, pipeline: Any, method: str) -> torch.Tensor:  # Any: each has a class
    """Latents at the size of this pass. Errors: RenderFailed(invalid_request) where a model packs its latents."""
    latents, scale = context.latents, int(getattr(pipeline, "vae_scale_factor", 0))
    if latents is None or latents.ndim != 4 or not scale:
        message = f"{type(pipeline).__name__} has no latents that can be enlarged: take upscale/method lanczos"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message)
    width, height = context.current.width_px // scale, context.current.height_px // scale
    own = latents.shape[3], latents.shape[2]
    (left, wide), (upper, high) = _beyond(own, (width, height), context.request.seamless, BEYOND_LATENTS)
    latents = pad(latents, (left, left, upper, upper), mode="circular")
    larger = interpolate(latents, size=(height + 2 * high, width + 2 * wide), **LATENT_METHODS[method])
    return larger[:, :, high : high + height, wide : wide + width]


def _beyond(size: Size, larger: Size, axes: str | None, least: int) -> list[tuple[int, int]]:
    """How much of the other side is continued beyond each edge, before and after an image is enlarged: whole pixels.

    >>> _beyond((64, 64), (96, 128), "x", 16), _beyond((512, 512), (520, 520), "both", 16)
    ([(16, 24), (0, 0)], [(64, 65), (64, 65)])
    """
    found = []
    for axis, old, new in zip("xy", size, larger, strict=True):
        whole = old // gcd(old, new)
        before = min(old, whole * -(-least // whole)) if axes in (axis, "both") else 0
        found.append((before, before * new // old))
    return found
