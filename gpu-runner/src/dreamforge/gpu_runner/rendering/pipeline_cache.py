"""Pipelines kept in memory: loaded once, the least recently used leaves first. Import this only in the child."""

import gc
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import Dtype
from dreamforge.gpu_runner.rendering.load_report import UNREADABLE, LoadReport, WeightsWrong, report_warnings
from dreamforge.gpu_runner.rendering.pipeline import INDEX_NAME, Pipeline, ReadPipeline, pipeline_bytes, read_pipeline
from dreamforge.gpu_runner.rendering.renderer import ModelKey, ModelPlacement, RenderFailed, RenderWarning
from dreamforge.gpu_runner.rendering.torch_device import TorchDevice
from dreamforge.gpu_runner.rendering.weights import inspected

DTYPES: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class _Resident:
    pipeline: Pipeline
    size_bytes: int
    report: LoadReport


class PipelineCache:
    """Pipelines of at most `budget_bytes` on one device, each as `from_pretrained` gave it.

    A model larger than the budget is loaded all the same, alone. One that waits in the host's memory counts
    as what it takes there. `place` moves a pipeline that was read to where it shall be.
    """

    def __init__(
        self, device: TorchDevice, *, budget_bytes: int, place: Callable[[Pipeline, ModelPlacement], None]
    ) -> None:
        self._device, self._budget_bytes, self._place = device, budget_bytes, place
        self._residents: OrderedDict[ModelKey, _Resident] = OrderedDict()
        self._to_sweep = False

    def __contains__(self, model: ModelKey) -> bool:
        return self._settled(model) in self._residents

    def get(self, model: ModelKey) -> Pipeline:
        """A resident pipeline, now the most recently used. Errors: KeyError."""
        key = self._settled(model)
        self._residents.move_to_end(key)
        return self._residents[key].pipeline

    def size_bytes(self, model: ModelKey) -> int:
        """What a resident model's parameters and buffers take. Errors: KeyError."""
        return self._residents[self._settled(model)].size_bytes

    def warnings(self, model: ModelKey) -> tuple[RenderWarning, ...]:
        """What a resident model's files hold that no image will show. Errors: KeyError."""
        key = self._settled(model)
        return report_warnings(self._residents[key].report, key.model_id)

    def load(self, model: ModelKey) -> tuple[int, tuple[str, ...]]:
        """Load a model, making room first; its bytes, and the ids of models that had to leave.

        The same model held in another way leaves as well. Out of memory with others resident: all of them leave
        and the load is tried once more.
        Errors: RenderFailed (model_missing, model_broken, out_of_memory).
        """
        key = self._settled(model)
        if not (key.path / INDEX_NAME).is_file():
            raise RenderFailed(FailureReason.MODEL_MISSING, f"{key.model_id}: no {INDEX_NAME} in its folder")
        size = inspected(key.model_id, key.path).size
        unloaded = self._drop([other for other in self._residents if other.path == key.path])
        unloaded += self._make_room(size.loaded_bytes(_dtype(key).itemsize))
        try:
            read = self._read(key)
        except torch.OutOfMemoryError:
            if not self._residents:
                raise
            unloaded += self.clear()
            read = self._read(key)
        self._residents[key] = _Resident(read.pipeline, pipeline_bytes(read.pipeline), read.report)
        return self._residents[key].size_bytes, unloaded

    def sweep(self) -> None:
        """Give back what a failed run held until its error was gone: `clear` cannot, while it is being raised."""
        if self._to_sweep:
            self._to_sweep = False
            gc.collect()
            self._device.release()

    def clear(self) -> tuple[str, ...]:
        """Let every model go; their ids."""
        self._to_sweep = True
        return self._drop(list(self._residents))

    def _settled(self, model: ModelKey) -> ModelKey:
        """The same, with what its placement leaves open as this device has it: two names of one way are one model."""
        offload = model.placement.offload if self._device.own_memory else "none"
        dtype = model.placement.dtype or self._device.dtype_name
        return replace(model, placement=replace(model.placement, dtype=dtype, offload=offload))

    def _make_room(self, needed_bytes: int) -> tuple[str, ...]:
        leaving, held_bytes = [], sum(resident.size_bytes for resident in self._residents.values())
        for key, resident in self._residents.items():
            if held_bytes + needed_bytes <= self._budget_bytes:
                break
            leaving.append(key)
            held_bytes -= resident.size_bytes
        return self._drop(leaving)

    def _drop(self, leaving: list[ModelKey]) -> tuple[str, ...]:
        for key in leaving:
            del self._residents[key]
        if leaving:
            gc.collect()
            self._device.release()
        return tuple(key.model_id for key in leaving)

    def _read(self, key: ModelKey) -> ReadPipeline:
        try:
            read = read_pipeline(key.path, dtype=_dtype(key))
        except (WeightsWrong, *UNREADABLE) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise RenderFailed(FailureReason.MODEL_BROKEN, f"{key.model_id} does not load: {error}") from error
        read.pipeline.set_progress_bar_config(disable=True)
        self._place(read.pipeline, key.placement)
        return read


def _dtype(key: ModelKey) -> torch.dtype:
    return DTYPES[key.placement.dtype or "float32"]
