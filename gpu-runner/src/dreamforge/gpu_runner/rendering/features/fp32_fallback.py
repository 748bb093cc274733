"""Renders once more in float32 what half precision lost: its numbers overflow in some models, and the image is black.

Import this only in the child.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dreamforge.contracts.events import WarningCode
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderWarning

#: Where diffusers and accelerate hang what moves or casts a module's weights on each call: its dtype is theirs then.
HOOKS = ("_diffusers_hook", "_hf_hook")
HALVES = frozenset({torch.float16, torch.bfloat16})

RAISED = RenderWarning(WarningCode.PRECISION_RAISED, "no image came of it in {dtype}, so it was rendered in float32")
BLACK = RenderWarning(WarningCode.IMAGE_BLACK, "the image is all black")


class Fp32Fallback(RenderFeature):
    """Around each pass of every image."""

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:  # noqa: ARG002
        """What comes of a pass, in float32 if that is better."""
        return with_fp32_fallback(pipeline, proceed)


def with_fp32_fallback(pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
    """What `proceed` gives, or what it gives in float32 if that is better.

    An image that is black in float32 too stays as it was: it may be what was asked for. Errors: what `proceed` raises.
    """
    first = proceed()
    if _shows_something(first.pixels):
        return first
    if (lower := _raisable(pipeline)) is not None and (second := _in_float32(pipeline, proceed)) is not None:
        if _shows_something(second.pixels):
            name = str(lower).removeprefix("torch.")
            raised = RenderWarning(RAISED.code, RAISED.message.format(dtype=name))
            return second.with_warning(raised, dtype="float32")
        if first.pixels is None:
            return second.with_warning(BLACK, dtype="float32")
    return first if first.pixels is None else first.with_warning(BLACK)


def _shows_something(pixels: torch.Tensor | None) -> bool:
    return pixels is not None and bool(pixels.any())


def _in_float32(pipeline: Pipeline, proceed: RunPass) -> RenderedPixels | None:
    """The image in float32; None where it is none either, or takes more memory than there is."""
    try:
        with float32(pipeline):
            found = proceed()
            return None if found.pixels is None else found
    except torch.OutOfMemoryError:
        return None


@contextmanager
def float32(pipeline: Pipeline) -> Iterator[None]:
    """Every half-precision weight as float32 for a while, and then the same bits as before: both casts are exact."""
    halves = [(tensor, tensor.dtype) for tensor in _tensors(pipeline) if tensor.dtype in HALVES]
    try:
        _cast([(tensor, torch.float32) for tensor, _ in halves])
        yield
    finally:
        _cast(halves)


def _cast(tensors: list[tuple[torch.Tensor, torch.dtype]]) -> None:
    # Weights that were made in inference mode could not be used outside of it.
    with torch.inference_mode(False), torch.no_grad():
        for tensor, dtype in tensors:
            tensor.data = tensor.data.to(dtype)


def _raisable(pipeline: Pipeline) -> torch.dtype | None:
    """The half-precision type that this pipeline renders in; None where it has none, or where hooks own its weights."""
    hooked = any(hasattr(module, hook) for part in _parts(pipeline) for module in part.modules() for hook in HOOKS)
    halves = (tensor.dtype for tensor in _tensors(pipeline) if tensor.dtype in HALVES)
    return None if hooked else next(halves, None)


def _parts(pipeline: Pipeline) -> list[torch.nn.Module]:
    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def _tensors(pipeline: Pipeline) -> Iterator[torch.Tensor]:
    for part in _parts(pipeline):
        yield from part.parameters()
        yield from part.buffers()
