"""Networks beside the pipelines: those of the last request stay in memory. Import this only in the child."""

import gc
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import torch

from dreamforge.gpu_runner.rendering.renderer import ModelKey


class Network(Protocol):
    """What was read, and in which precision."""

    @property
    def key(self) -> ModelKey: ...
    @property
    def dtype(self) -> torch.dtype: ...


Read = TypeVar("Read", bound=Network)


class NetworkCache(Generic[Read]):
    """Those that one feature uses. `read` reads one; its errors are those of `take`."""

    def __init__(self, read: Callable[[ModelKey, torch.dtype], Read]) -> None:
        self._read = read
        self._loaded: tuple[Read, ...] = ()

    def take(self, keys: Sequence[ModelKey], dtype: torch.dtype) -> tuple[Read, ...]:
        """The network of each key; those of the last request that are not among them are let go first."""
        kept = {each.key: each for each in self._loaded if each.key in keys and each.dtype == dtype}
        if keys and len(kept) < len(self._loaded):
            self.release()
        for key in keys:
            if key not in kept:
                kept[key] = self._read(key, dtype)
                self._loaded = tuple(kept.values())
        return tuple(kept[key] for key in keys)

    def release(self) -> None:
        """Let them go."""
        if self._loaded:
            self._loaded = ()
            gc.collect()
