"""The pipeline that runs a pass: the one in memory, or one of its mode that shares its weights. Only in the child."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import diffusers

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import Mode
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

_AUTO: dict[Mode, str] = {
    "text": "AutoPipelineForText2Image",
    "image": "AutoPipelineForImage2Image",
    "inpaint": "AutoPipelineForInpainting",
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
        variant: Pipeline = getattr(diffusers, _AUTO[mode]).from_pipe(base, **parts)
    except ValueError as error:
        means = " and ".join((_WORDS[mode], *sorted(parts.keys() - {"scheduler"})))
        raise RenderFailed(FailureReason.INVALID_REQUEST, f"{type(base).__name__} has no {means}") from error
    variant.set_progress_bar_config(disable=True)
    return variant
