"""Pipelines kept in memory: loaded once, the least recently used leaves first. Import this only in the child."""

import gc
from collections import OrderedDict
from pathlib import Path

import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.pipeline import Pipeline, read_pipeline
from dreamforge.gpu_runner.renderer import ModelKey, RenderFailed
from dreamforge.gpu_runner.torch_device import TorchDevice

INDEX_NAME = "model_index.json"


class Residents:
    """At most `capacity` pipelines on one device, each as `from_pretrained` gave it."""

    def __init__(self, device: TorchDevice, *, capacity: int) -> None:
        self._device, self._capacity = device, max(1, capacity)
        self._pipelines: OrderedDict[ModelKey, Pipeline] = OrderedDict()

    def __contains__(self, model: ModelKey) -> bool:
        return model in self._pipelines

    def get(self, model: ModelKey) -> Pipeline:
        """A resident pipeline, now the most recently used. Errors: KeyError."""
        self._pipelines.move_to_end(model)
        return self._pipelines[model]

    def load(self, model: ModelKey) -> tuple[int, tuple[str, ...]]:
        """Load a model, making room first; its bytes, and the ids of models that had to leave.

        Out of memory with others resident: all of them leave and the load is tried once more.
        Errors: RenderFailed (model_missing, model_broken, out_of_memory).
        """
        if not (model.path / INDEX_NAME).is_file():
            raise RenderFailed(FailureReason.MODEL_MISSING, f"{model.model_id}: no {INDEX_NAME} in its folder")
        unloaded = self._make_room(self._capacity - 1)
        try:
            pipeline = self._read(model)
        except torch.OutOfMemoryError:
            if not self._pipelines:
                raise
            unloaded += self._make_room(0)
            pipeline = self._read(model)
        self._pipelines[model] = pipeline
        return _parameter_bytes(pipeline), unloaded

    def clear(self) -> tuple[str, ...]:
        """Let every model go; their ids."""
        return self._make_room(0)

    def _make_room(self, keep: int) -> tuple[str, ...]:
        unloaded = []
        while len(self._pipelines) > keep:
            model, _ = self._pipelines.popitem(last=False)
            unloaded.append(model.model_id)
        if unloaded:
            gc.collect()
            self._device.release()
        return tuple(unloaded)

    def _read(self, model: ModelKey) -> Pipeline:
        try:
            pipeline = read_pipeline(str(model.path), dtype=self._device.dtype, variant=variant_of(model.path))
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise RenderFailed(FailureReason.MODEL_BROKEN, f"{model.model_id} does not load: {error}") from error
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(self._device.device)


def variant_of(folder: Path) -> str | None:
    """`fp16` for a folder that holds its weights only so: diffusers does not find them unless told."""
    weights = [path.name for path in folder.rglob("*.safetensors")]
    halves = [name for name in weights if ".fp16." in name]
    return "fp16" if weights and len(halves) == len(weights) else None


def _parameter_bytes(pipeline: Pipeline) -> int:
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
