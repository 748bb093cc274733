"""What a pipeline is asked, checked before it runs: diffusers would take it badly, or silently. Only in the child."""

import inspect
from collections.abc import Mapping
from typing import Any

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.features.samplers import steps_limit
from dreamforge.gpu_runner.rendering.passes import steps_made
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: Side in pixels that one latent stands for, where a pipeline does not say: Stable Diffusion's.
DEFAULT_SIZE_MULTIPLE = 8


def check_request(pipeline: Pipeline, task: RenderTask, scheduler: Any) -> None:  # Any: see `samplers`
    """Errors: RenderFailed(invalid_request)."""
    _check_sizes(pipeline, task)
    _check_steps(task, steps_limit(scheduler))
    parameters = inspect.signature(type(pipeline).__call__).parameters
    if "callback_on_step_end" not in parameters or "prompt" not in parameters:
        raise _invalid(f"{type(pipeline).__name__} does not paint from a prompt in steps")
    if task.negative_prompt and not _takes_negative(parameters):
        raise _invalid(f"{type(pipeline).__name__} takes no negative prompt")
    if task.mask_image is not None and task.init_image is None:
        raise _invalid("a mask needs the picture that it lies on")
    if task.loras and not hasattr(pipeline, "load_lora_weights"):
        raise _invalid(f"{type(pipeline).__name__} takes no LoRA")


def size_multiple(pipeline: Pipeline) -> int:
    """What both sides must be multiples of, in pixels; a transformer packs several latents into one token."""
    scale = int(getattr(pipeline, "vae_scale_factor", DEFAULT_SIZE_MULTIPLE))
    processor = getattr(pipeline, "image_processor", None)
    packed = int(processor.config.vae_scale_factor) if processor is not None else scale
    return max(scale * int(getattr(pipeline, "patch_size", 1)), packed)


def _check_sizes(pipeline: Pipeline, task: RenderTask) -> None:
    multiple = size_multiple(pipeline)
    sizes = {"width": task.width_px, "height": task.height_px}
    if task.upscale is not None:
        sizes |= {"upscale width": task.upscale.width_px, "upscale height": task.upscale.height_px}
    for name, size_px in sizes.items():
        if size_px % multiple:
            raise _invalid(f"{name} {size_px} is not a multiple of {multiple} pixels")


def _check_steps(task: RenderTask, limit: int) -> None:
    if task.steps > limit:
        raise _invalid(f"{task.steps} steps, and this model and sampler have {limit}")
    upscale = task.upscale.strength if task.upscale else None
    for name, strength in (("strength", task.strength_used), ("upscale strength", upscale)):
        if steps_made(task.steps, strength) < 1:
            raise _invalid(f"{name} {strength} of {task.steps} steps leaves no step to make")


def _takes_negative(parameters: Mapping[str, object]) -> bool:
    # FLUX has the keyword and ignores it, unless guidance is done a second way at twice the cost.
    return "negative_prompt" in parameters and "true_cfg_scale" not in parameters


def _invalid(message: str) -> RenderFailed:
    return RenderFailed(FailureReason.INVALID_REQUEST, message)
