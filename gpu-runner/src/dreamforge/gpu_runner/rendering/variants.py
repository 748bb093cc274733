"""The pipeline that runs a pass: the one in memory, or one of its mode that shares its weights. Only in the child."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import diffusers

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import Mode
from dreamforge.gpu_runner.rendering.checks import is_video
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.gpu_runner.rendering.text_encoders import call_parameters

_AUTO: dict[Mode, str] = {
    "text": "AutoPipelineForText2Image",
    "image": "AutoPipelineForImage2Image",
    "inpaint": "AutoPipelineForInpainting",
}
#: Those that diffusers has and its automatic choice does not know, by the class of the pipeline in memory.
_MORE: dict[tuple[str, Mode], str] = {
    ("ChromaPipeline", "image"): "ChromaImg2ImgPipeline",
    ("SanaSprintPipeline", "image"): "SanaSprintImg2ImgPipeline",
    ("LTXPipeline", "image"): "LTXImageToVideoPipeline",
    ("LTXImageToVideoPipeline", "image"): "LTXImageToVideoPipeline",
    ("WanPipeline", "image"): "WanImageToVideoPipeline",
    ("WanImageToVideoPipeline", "image"): "WanImageToVideoPipeline",
}
_WORDS: dict[Mode, str] = {"text": "text-to-image", "image": "image-to-image", "inpaint": "inpainting"}


@contextmanager
def pipeline_for(base: Pipeline, mode: Mode, parts: Mapping[str, Any]) -> Iterator[Pipeline]:  # Any: untyped classes
    """The pipeline of `base`'s weights that runs in this mode with these parts, a scheduler of its own among them.

    Errors: RenderFailed(invalid_request) where diffusers has none for this family.
    """
    if mode != "text" or parts.keys() - {"scheduler"}:
        yield _variant(base, mode, parts)
        return
    # As it is, so that also a pipeline renders that diffusers has no variants of.
    native = base.scheduler
    base.scheduler = parts["scheduler"]
    try:
        yield base
    finally:
        base.scheduler = native


def _variant(base: Pipeline, mode: Mode, parts: Mapping[str, Any]) -> Pipeline:  # Any: see `pipeline_for`
    try:
        variant = _made(base, mode, parts)
    except ValueError as error:
        raise _none(base, mode, parts) from error
    # Of an editing model diffusers' choice is the model itself, which takes an image as something else.
    if mode != "text" and "strength" not in call_parameters(variant) and not is_video(variant):
        raise _none(base, mode, parts)
    variant.set_progress_bar_config(disable=True)
    return variant


def _none(base: Pipeline, mode: Mode, parts: Mapping[str, Any]) -> RenderFailed:  # Any: see `pipeline_for`
    means = " and ".join((_WORDS[mode], *sorted(parts.keys() - {"scheduler"})))
    return RenderFailed(FailureReason.INVALID_REQUEST, f"{type(base).__name__} has no {means}")


def _made(base: Pipeline, mode: Mode, parts: Mapping[str, Any]) -> Pipeline:  # Any: see `pipeline_for`
    """Errors: ValueError where there is none."""
    name = _MORE.get((type(base).__name__, mode))
    if name is None:
        made: Pipeline = getattr(diffusers, _AUTO[mode]).from_pipe(base, **parts)
        return made
    variant_class = getattr(diffusers, name)
    takes = inspect.signature(variant_class.__init__).parameters
    # Not by `from_pipe` of the class, which casts the weights that both share.
    own = {**_settings(base), **base.components, **parts}
    shared: Pipeline = variant_class(**{each: part for each, part in own.items() if each in takes})
    return shared


def _settings(pipeline: Any) -> dict[str, Any]:  # Any: see `pipeline_for`
    """What a pipeline is told beside its parts."""
    return {name: value for name, value in pipeline.config.items() if not name.startswith("_")}
