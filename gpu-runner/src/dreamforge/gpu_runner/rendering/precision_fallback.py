"""Whether a picture is one at all: half-precision numbers overflow in some models, and the picture is black or none.

Such a picture is painted once more in float32. Import this only in the child.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import Remark, RenderFailed

#: Where diffusers and accelerate hang what moves or casts a module's weights on each call: its dtype is theirs then.
HOOKS = ("_diffusers_hook", "_hf_hook")
HALVES = frozenset({torch.float16, torch.bfloat16})

RAISED = Remark(WarningCode.PRECISION_RAISED, "no picture came of it in {dtype}, so it was painted in float32")
BLACK = Remark(WarningCode.IMAGE_BLACK, "the picture is all black")


@dataclass(frozen=True, slots=True)
class Sound:
    """A picture that is made of numbers: (height, width, 3) bytes; `dtype` when another than asked for painted it."""

    pixels: torch.Tensor
    remarks: tuple[Remark, ...] = ()
    dtype: str | None = None

    def then(self, later: "Sound") -> "Sound":
        """A later pass over this picture: its pixels, and what is to be said of both."""
        return Sound(later.pixels, tuple(dict.fromkeys((*self.remarks, *later.remarks))), later.dtype or self.dtype)


def soundly(pipeline: Pipeline, paint: Callable[[], torch.Tensor]) -> Sound:
    """What `paint` gives, (1, 3, height, width) floats in [0, 1], or what it gives in float32 if that is better.

    A picture that is black in float32 too stays as it was: it may be what was asked for.
    Errors: RenderFailed(model_broken) where the pixels are no numbers in float32 either; what `paint` raises.
    """
    first = as_bytes(paint())
    if first is not None and bool(first.any()):
        return Sound(first)
    if (lower := _raisable(pipeline)) is not None and (second := _in_float32(pipeline, paint)) is not None:
        if bool(second.any()):
            name = str(lower).removeprefix("torch.")
            return Sound(second, (Remark(RAISED.code, RAISED.message.format(dtype=name)),), "float32")
        if first is None:
            return Sound(second, (BLACK,), "float32")
    if first is None:
        raise RenderFailed(FailureReason.MODEL_BROKEN, "the model gave pixels that are not numbers")
    return Sound(first, (BLACK,))


def as_bytes(images: torch.Tensor) -> torch.Tensor | None:
    """Bytes (height, width, 3) of the first image of (1, 3, height, width) floats in [0, 1]; None if one is no number.

    >>> as_bytes(torch.tensor([[[[1.0]], [[0.5]], [[0.0]]]])).tolist()
    [[[255, 128, 0]]]
    """
    image = images[0].float().cpu()
    if not bool(torch.isfinite(image).all()):
        return None
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def _in_float32(pipeline: Pipeline, paint: Callable[[], torch.Tensor]) -> torch.Tensor | None:
    """The picture in float32; None where that takes more memory than there is."""
    try:
        with float32(pipeline):
            return as_bytes(paint())
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
    """The half-precision type that this pipeline paints in; None where it has none, or where hooks own its weights."""
    hooked = any(hasattr(module, hook) for part in _parts(pipeline) for module in part.modules() for hook in HOOKS)
    halves = (tensor.dtype for tensor in _tensors(pipeline) if tensor.dtype in HALVES)
    return None if hooked else next(halves, None)


def _parts(pipeline: Pipeline) -> list[torch.nn.Module]:
    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def _tensors(pipeline: Pipeline) -> Iterator[torch.Tensor]:
    for part in _parts(pipeline):
        yield from part.parameters()
        yield from part.buffers()
