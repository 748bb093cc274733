"""A card of a few megabytes that is part of the host's memory: what moves between the two is copied. Imports torch.

diffusers' and accelerate's own hooks move the weights. Torch takes `cpu:0` for another device than `cpu` when it moves
a tensor, and so copies it; here the copy also names `cpu:0` as its device, and on its way back it becomes the tensor
that it was made from, as weights that nothing changed do on a real card.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
from dreamforge.gpu_runner.rendering.feature_list import standard_features
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.torch_device import TorchDevice

from .memory_limit import AllocationLimit, id_of

CARD, HOST = torch.device("cpu", 0), torch.device("cpu")
UNLIMITED = 2**60


def settle_card(_choice: str, dtype: str, threads: int) -> TorchDevice:
    """The card as a device to render on."""
    return replace(TorchDevice.settle("cpu", dtype, threads), device=CARD, own_memory=True)


def card_renderer(memory: RenderFeature) -> DiffusersRenderer:
    """A renderer on the card; `memory` is the innermost of its features: see `CardMemory`."""
    return DiffusersRenderer(
        device="",
        dtype="float32",
        threads=1,
        features=lambda device: (*standard_features(device), memory),
        settle=settle_card,
    )


class PretendCard(TorchFunctionMode):
    """Its `memory` has what was copied to it and what a run allocates; beyond the limit torch is out of memory.

    To be entered around all that loads and renders.
    """

    def __init__(self) -> None:
        super().__init__()
        self.memory = AllocationLimit(UNLIMITED)
        #: What each storage on the card was copied from.
        self._origins: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == torch.Tensor.device.__get__:
            found = func(*args, **kwargs)
            return CARD if found == HOST and id_of(args[0]) in self._origins else found
        if func == torch.Tensor.cpu:
            return self._moved(args[0], HOST, lambda _: func(*args, **kwargs))
        if func == torch.Tensor.to and (target := _device_of(args[1:], kwargs)) is not None:
            return self._moved(args[0], target, lambda device: func(*_with(device, args), **_named(device, kwargs)))
        return func(*args, **kwargs)

    def _moved(self, tensor: torch.Tensor, target: torch.device, to: Callable[[torch.device], Any]) -> Any:
        """The tensor on a device; `to` moves it as torch does, and changes its type where that was asked for."""
        origin = self._origins.get(id_of(tensor)) if tensor.device.type == "cpu" else None
        if origin is not None:  # it is on the card, where another type of it is not counted
            moved = to(HOST)
            return origin if target == HOST and moved is tensor and _is_whole(tensor, origin) else moved
        if target != CARD:
            return to(target)
        with self.memory:
            moved = to(CARD)
        self._origins[id_of(moved)] = tensor.detach()  # a parameter is given its copy in place
        weakref.finalize(moved.untyped_storage(), self._origins.pop, id_of(moved), None)
        return moved


class CardMemory(RenderFeature):
    """Counts what a run allocates as the card's, and keeps the most that the card held in each run."""

    def __init__(self, card: PretendCard) -> None:
        self._memory = card.memory
        self.peaks: list[int] = []

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:  # noqa: ARG002
        self._memory.peak_bytes = self._memory.live_bytes
        try:
            with self._memory:
                return proceed()
        finally:
            self.peaks.append(self._memory.peak_bytes)


def _device_of(args: Sequence[Any], kwargs: dict[str, Any]) -> torch.device | None:
    """The device among the arguments of `Tensor.to`; None: it changes the type only."""
    found = next((each for each in (*args, kwargs.get("device")) if isinstance(each, torch.device | str)), None)
    return None if found is None else torch.device(found)


def _with(device: torch.device, args: Sequence[Any]) -> list[Any]:
    return [device if isinstance(each, torch.device | str) else each for each in args]


def _named(device: torch.device, kwargs: dict[str, Any]) -> dict[str, Any]:
    return kwargs | {"device": device} if "device" in kwargs else kwargs


def _is_whole(tensor: torch.Tensor, origin: torch.Tensor) -> bool:
    """Whether a tensor is all of what was copied, and no part of it."""
    return (tensor.shape, tensor.dtype, tensor.stride()) == (origin.shape, origin.dtype, origin.stride())
