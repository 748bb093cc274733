"""What single pipelines do unless they are told otherwise, and no request asked for. Import this only in the child."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.gpu_runner.rendering.text_encoders import call_parameters

#: The only number of steps for which Sana-Sprint's default of the time in the middle is meant.
STEPS_WITH_A_MIDDLE = 2
#: Scales every size to the area of this many latents a side.
SCALED_BY_CLASS = "HiDreamImagePipeline"
#: Above 1 by more than a float rounds, below it by less than a pixel: a quotient of 1 must not fall under it.
ROUNDING = 1 + 1e-9
#: The decoder of LTX makes the last step of denoising, for which the latents get a little noise again (configs/ of
#: Lightricks/LTX-Video, the same in all versions from 0.9.1 on). diffusers' defaults, 0 and none, are those of 0.9.
LAST_NOISE_TIME, LAST_NOISE_SCALE = 0.05, 0.025


class PipelineDefaults(RenderFeature):
    """Every image has the size and the steps of its request."""

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where the transformer has no places for so many pixels."""
        limit_px = _area_limit_px(pipeline)
        request = task.request
        if limit_px is not None and request.width_px * request.height_px > limit_px:
            message = f"{request.width_px} x {request.height_px} pixels, and this model has places for {limit_px}"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:
        """Keywords that switch off what would change it."""
        takes, current = call_parameters(pipeline), context.current
        own: dict[str, object] = {
            # Sana renders at the nearest size of a list, and resizes.
            "use_resolution_binning": False,
            # FLUX Kontext renders so many pixels, in the shape that was asked for.
            "max_area": current.width_px * current.height_px,
            # And brings its reference to one of a list of sizes.
            "_auto_resize": False,
        }
        if context.request.steps != STEPS_WITH_A_MIDDLE:
            own["intermediate_timesteps"] = None
        if _denoises_last(pipeline):
            own |= {"decode_timestep": LAST_NOISE_TIME, "decode_noise_scale": LAST_NOISE_SCALE}
        return {name: value for name, value in own.items() if name in takes}

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
        """HiDream scales every size to one megapixel: have that area be the request's."""
        if type(pipeline).__name__ != SCALED_BY_CLASS:
            return proceed()
        with _at_area(pipeline, context.current.width_px * context.current.height_px):
            return proceed()


def _denoises_last(pipeline: Any) -> bool:  # Any: as below
    vae = pipeline.components.get("vae")
    return vae is not None and bool(vae.config.get("timestep_conditioning"))


def _area_limit_px(pipeline: Any) -> int | None:  # Any: what only some pipelines have is in no type
    if type(pipeline).__name__ != SCALED_BY_CLASS:
        return None
    high, wide = pipeline.transformer.config.max_resolution
    return int(high * wide * pipeline.vae_scale_factor**2)


@contextmanager
def _at_area(pipeline: Any, area_px: int) -> Iterator[None]:  # Any: as above
    usual = pipeline.default_sample_size
    pipeline.default_sample_size = math.sqrt(area_px) / pipeline.vae_scale_factor * ROUNDING
    try:
        yield
    finally:
        pipeline.default_sample_size = usual
