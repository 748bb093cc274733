"""A second pass: the finished image is enlarged and rendered over at its new size. Import this only in the child."""

from typing import Any

import torch
from PIL import Image
from torch.nn.functional import interpolate

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import Upscale
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.images import enlarge
from dreamforge.gpu_runner.rendering.passes import Pass, PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
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


class UpscalePass(RenderFeature):
    """`upscale` of a request; the last upscaler used stays in memory."""

    def __init__(self, device: torch.device) -> None:
        self._upscalers = UpscalerCache(device)

    def plan(self, task: RenderTask, passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
        """One more pass, if there is to be one."""
        if (upscale := task.request.upscale) is None:
            return passes
        return (*passes, Pass("image", task.request.second_pass(upscale), upscale.strength, name="upscale"))

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:
        """What the pass before gave, at the size of this one. Errors: RenderFailed of an upscaler, or of latents."""
        upscale = context.task.request.upscale
        if context.previous is None or upscale is None:
            return {}
        if upscale.method in LATENT_METHODS:
            return {"image": _larger_latents(context, pipeline, upscale.method), "strength": context.current.strength}
        return {"image": self._larger(context.task, upscale, context.previous), "strength": context.current.strength}

    def release(self) -> None:
        """Let the upscaler go."""
        self._upscalers.release()

    def _larger(self, task: RenderTask, upscale: Upscale, image: Image.Image) -> Image.Image:
        size = {"width_px": upscale.width_px, "height_px": upscale.height_px}
        if upscale.model_id is not None:
            image = self._upscalers.get(upscale.model_id, task.assets[upscale.model_id]).enlarged(image)
        if upscale.method == "nearest":
            return image.resize((upscale.width_px, upscale.height_px), Image.Resampling.NEAREST)
        return enlarge(image, **size)


def _larger_latents(context: PassContext, pipeline: Any, method: str) -> torch.Tensor:  # Any: each has a class
    """Latents at the size of this pass. Errors: RenderFailed(invalid_request) where a model packs its latents."""
    latents, scale = context.latents, int(getattr(pipeline, "vae_scale_factor", 0))
    if latents is None or latents.ndim != 4 or not scale:
        message = f"{type(pipeline).__name__} has no latents that can be enlarged: take upscale/method lanczos"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message)
    size = (context.current.height_px // scale, context.current.width_px // scale)
    return interpolate(latents, size=size, **LATENT_METHODS[method])
