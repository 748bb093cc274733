"""One run of a pipeline: from noise, from a picture, or into a hole in one. Import this only in the child.

A picture takes one pass, and one more where it is upscaled.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import diffusers
from PIL.Image import Image

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import Mode
from dreamforge.gpu_runner.protocol.render_task import RenderTask, UpscaleTask
from dreamforge.gpu_runner.rendering.images import enlarge, read_mask, read_picture
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

_AUTO: dict[Mode, str] = {
    "text": "AutoPipelineForText2Image",
    "image": "AutoPipelineForImage2Image",
    "inpaint": "AutoPipelineForInpainting",
}
_WORDS: dict[Mode, str] = {"text": "text-to-image", "image": "image-to-image", "inpaint": "inpainting"}


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet in memory with its picture."""

    net: Any  # Any: diffusers' classes have no types
    picture: Image
    scale: float


@dataclass(frozen=True, slots=True)
class Pass:
    """What one run starts from; `strength` is the share of the steps that is really made, None: all."""

    mode: Mode
    width_px: int
    height_px: int
    strength: float | None = None
    picture: Image | None = None
    mask: Image | None = None
    control: Control | None = None


def first_pass(task: RenderTask, control: Control | None) -> Pass:
    """What a task asks for at its own size. Errors: RenderFailed(invalid_request) if an input is no picture."""
    width_px, height_px = task.width_px, task.height_px
    picture, mask = None, None
    if task.init_image is not None:
        picture = read_picture(task.init_image, width_px=width_px, height_px=height_px)
    if task.mask_image is not None:
        mask = read_mask(task.mask_image, width_px=width_px, height_px=height_px)
    return Pass(task.mode, width_px, height_px, task.strength_used, picture, mask, control)


def second_pass(upscale: UpscaleTask, picture: Image) -> Pass:
    """The finished picture, enlarged and painted over."""
    width_px, height_px = upscale.width_px, upscale.height_px
    enlarged = enlarge(picture, width_px=width_px, height_px=height_px)
    return Pass("image", width_px, height_px, upscale.strength, enlarged)


@contextmanager
def pipeline_for(base: Pipeline, mode: Mode, net: Any, scheduler: Any) -> Iterator[Pipeline]:  # Any: see Control
    """The pipeline of `base`'s weights that runs in this mode, with a scheduler of its own.

    Errors: RenderFailed(invalid_request) where diffusers has none for this family.
    """
    if mode != "text" or net is not None:
        with _offloaded_like(base, _variant(base, mode, net, scheduler)) as variant:
            yield variant
        return
    # As it is, so that also a pipeline paints that diffusers has no variants of.
    native = base.scheduler
    base.scheduler = scheduler
    try:
        yield base
    except BaseException:
        # A render that was cut short leaves parts on the device that should wait in the host's memory.
        base.maybe_free_model_hooks()
        raise
    finally:
        base.scheduler = native


@contextmanager
def _offloaded_like(base: Any, variant: Any) -> Iterator[Pipeline]:  # Any: see Control
    """The hooks that move shared parts to and from the device belong to one pipeline at a time."""
    if not getattr(base, "_all_hooks", ()):
        yield variant
        return
    variant.enable_model_cpu_offload(device=base._offload_device)
    try:
        yield variant
    finally:
        variant.remove_all_hooks()
        base.maybe_free_model_hooks()  # which hooks its parts again


def _variant(base: Pipeline, mode: Mode, net: Any, scheduler: Any) -> Pipeline:  # Any: see Control
    parts = {"scheduler": scheduler} | ({} if net is None else {"controlnet": net})
    try:
        variant: Pipeline = getattr(diffusers, _AUTO[mode]).from_pipe(base, **parts)
    except ValueError as error:
        means = _WORDS[mode] + (" with a ControlNet" if net is not None else "")
        raise RenderFailed(FailureReason.INVALID_REQUEST, f"{type(base).__name__} has no {means}") from error
    variant.set_progress_bar_config(disable=True)
    return variant


def pass_arguments(pipeline: Pipeline, a_pass: Pass) -> dict[str, Any]:  # Any: see Control
    """The keywords of a pass; sizes only where the pipeline does not take them from its picture."""
    parameters = inspect.signature(type(pipeline).__call__).parameters
    arguments: dict[str, Any] = {"image": a_pass.picture, "mask_image": a_pass.mask, "strength": a_pass.strength}
    if {"width", "height"} <= parameters.keys():
        arguments |= {"width": a_pass.width_px, "height": a_pass.height_px}
    if a_pass.control is not None:
        # Where `image` is what is painted over, the ControlNet's picture has a keyword of its own.
        name = "control_image" if "control_image" in parameters else "image"
        arguments |= {name: a_pass.control.picture, "controlnet_conditioning_scale": a_pass.control.scale}
    return {name: value for name, value in arguments.items() if value is not None}


def steps_made(steps: int, strength: float | None) -> int:
    """How many of `steps` a pass makes; some families round the last one up.

    >>> steps_made(20, 0.6), steps_made(20, None), steps_made(4, 0.2)
    (12, 20, 0)
    """
    return steps if strength is None else min(int(steps * strength), steps)
