"""A device of a few megabytes, on the CPU: allocations beyond a limit fail as on a GPU. Imports torch."""

import gc
import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline, pipeline_bytes
from dreamforge.gpu_runner.rendering.renderer import ModelPlacement


class AllocationLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that are made inside and still live; raises torch.OutOfMemoryError beyond `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit_bytes, self.live_bytes, self.peak_bytes = limit_bytes, 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {id_of(each) for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor) and id_of(each) not in before | self._known:
                self._count(each)
        return made

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size_bytes = storage._cdata, storage.nbytes()
        if self.live_bytes + size_bytes > self.limit_bytes:
            had = self.limit_bytes - self.live_bytes
            message = f"Tried to allocate {size_bytes} bytes. The device has {had} bytes free."
            raise torch.OutOfMemoryError(message)
        self._known.add(key)
        self.live_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._freed, key, size_bytes)

    def _freed(self, key: int, size_bytes: int) -> None:
        self._known.discard(key)
        self.live_bytes -= size_bytes


def id_of(tensor: torch.Tensor) -> int:
    """Of its storage: views are no memory of their own."""
    return int(tensor.untyped_storage()._cdata)


class LimitedMemory(RenderFeature):
    """Limits each run to `limit_bytes` less the models that are held; None: no limit, and only the peak is kept."""

    def __init__(self) -> None:
        self.limit_bytes: int | None = None
        #: Of each run: the most bytes that were live in it, and its models' bytes.
        self.peaks: list[tuple[int, int]] = []
        self._held: list[weakref.ref[Any]] = []

    def place(self, pipeline: Pipeline, placement: ModelPlacement) -> None:  # noqa: ARG002
        self._held.append(weakref.ref(pipeline))

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:  # noqa: ARG002
        gc.collect()
        held_bytes = sum(pipeline_bytes(each) for ref in self._held if (each := ref()) is not None)
        limit = AllocationLimit(2**60 if self.limit_bytes is None else self.limit_bytes - held_bytes)
        try:
            with limit:
                return proceed()
        finally:
            self.peaks.append((limit.peak_bytes, held_bytes))
