"""How many frames a video has, and for which speed they are rendered. Import this only in the child."""

import inspect
from typing import Any

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.checks import is_video
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.gpu_runner.rendering.text_encoders import call_parameters

#: At which time an autoencoder that reads it decodes, and how much noise is added before: of LTX's own examples.
DECODE_TIMESTEP, DECODE_NOISE_SCALE = 0.05, 0.025


class VideoFrames(RenderFeature):
    """`frames` and `frames_per_second` of a request."""

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where a video is asked of a model of images, or the other way round."""
        request, name = task.request, type(pipeline).__name__
        if not is_video(pipeline):
            if request.frames is not None:
                raise _invalid(f"{name} renders images, and frames are of a video")
            return
        if request.frames is None or request.frames_per_second is None:
            raise _invalid(f"{name} renders videos: frames and frames_per_second are needed")
        if request.output_format != "mp4":
            raise _invalid(f"{name} renders videos, and {request.output_format} is a format of images")
        multiple = frames_step(pipeline)
        if (request.frames - 1) % multiple:
            raise _invalid(f"{request.frames} frames are not one more than a multiple of {multiple}")
        if request.init_image is None and call_parameters(pipeline).get("image", _OPTIONAL).default is _EMPTY:
            raise _invalid(f"{name} starts from an image: init_image is needed")

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:
        """By the keywords of this pipeline."""
        request, takes = context.request, call_parameters(pipeline)
        if request.frames is None:
            return {}
        own: dict[str, object] = {"num_frames": request.frames, "frame_rate": request.frames_per_second}
        if _decodes_at_a_time(pipeline):
            own |= {"decode_timestep": DECODE_TIMESTEP, "decode_noise_scale": DECODE_NOISE_SCALE}
        return {name: value for name, value in own.items() if name in takes}


_EMPTY = inspect.Parameter.empty
_OPTIONAL = inspect.Parameter("image", inspect.Parameter.KEYWORD_ONLY, default=None)


def frames_step(pipeline: Any) -> int:  # Any: what only some pipelines have is in no type
    """How many frames a latent frame makes; Wan and LTX name it each in its own way."""
    return int(getattr(pipeline, "vae_scale_factor_temporal", None) or pipeline.vae_temporal_compression_ratio)


def _decodes_at_a_time(pipeline: Pipeline) -> bool:
    vae: Any = pipeline.components.get("vae")  # Any: see `frames_step`
    return bool(vae.config.get("timestep_conditioning"))


def _invalid(message: str) -> RenderFailed:
    return RenderFailed(FailureReason.INVALID_REQUEST, message)
