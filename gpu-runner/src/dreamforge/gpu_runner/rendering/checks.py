"""What every render needs of its pipeline, checked before it runs. Import this only in the child."""

import inspect
from typing import Any

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.rendering.passes import Pass
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: Side in pixels that one latent stands for, where a pipeline does not say: Stable Diffusion's.
DEFAULT_SIZE_MULTIPLE = 8


def check_passes(pipeline: Pipeline, passes: tuple[Pass, ...]) -> None:
    """Whether this pipeline can make these passes. Errors: RenderFailed(invalid_request)."""
    parameters = inspect.signature(type(pipeline).__call__).parameters
    if not parameters.keys() >= {"callback_on_step_end", "prompt"}:
        raise _invalid(f"{type(pipeline).__name__} does not render from a prompt in steps")
    for each in passes:
        _check_size(each, size_multiple(pipeline))
        if each.steps_made < 1:
            strength = f"{each.labelled('strength')} {each.strength}"
            raise _invalid(f"{strength} of {each.request.steps} steps leaves no step to make")


def size_multiple(pipeline: Pipeline) -> int:
    """What both sides must be multiples of, in pixels; a transformer packs several latents into one token."""
    if is_video(pipeline):
        return _video_multiple(pipeline)
    scale = int(getattr(pipeline, "vae_scale_factor", DEFAULT_SIZE_MULTIPLE))
    processor = getattr(pipeline, "image_processor", None)
    packed = int(processor.config.vae_scale_factor) if processor is not None else scale
    return max(scale * int(getattr(pipeline, "patch_size", 1)), packed)


def is_video(pipeline: Pipeline) -> bool:
    """Whether it renders videos."""
    return "num_frames" in inspect.signature(type(pipeline).__call__).parameters


def _video_multiple(pipeline: Any) -> int:  # Any: what only some pipelines have is in no type
    """Wan and LTX name the scale of their autoencoders each in its own way."""
    scale = getattr(pipeline, "vae_scale_factor_spatial", None) or pipeline.vae_spatial_compression_ratio
    patch = pipeline.transformer.config.patch_size
    return int(scale) * int(patch if isinstance(patch, int) else patch[-1])


def _check_size(each: Pass, multiple: int) -> None:
    for name, size_px in (("width", each.width_px), ("height", each.height_px)):
        if size_px % multiple:
            raise _invalid(f"{each.labelled(name)} {size_px} is not a multiple of {multiple} pixels")


def _invalid(message: str) -> RenderFailed:
    return RenderFailed(FailureReason.INVALID_REQUEST, message)
