"""LoRAs added to a loaded pipeline, and removed again without a trace. Import this only in the child.

Plain LoRAs are laid over by diffusers and peft, the other formats (LoHa, LoKr, DoRA) by `changed_layers`. Never fused:
`fuse_lora` and `unfuse_lora` leave rounding behind in weights that every later image shares.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import LoraUse
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask
from dreamforge.gpu_runner.rendering.changed_layers import ChangedLayers
from dreamforge.gpu_runner.rendering.hooks import RenderFeature
from dreamforge.gpu_runner.rendering.lora_keys import problem_of, renamed
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed, first_line
from dreamforge.gpu_runner.rendering.tensor_origins import Tensors
from dreamforge.runtime.storage.lora_layout import unread_format
from dreamforge.runtime.storage.lycoris_layout import changes_weights
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_inspection import lora_file

#: How diffusers' names of text encoders begin; what else takes a LoRA is the network that denoises.
TEXT_ENCODER = "text_encoder"


@dataclass(frozen=True, slots=True)
class _Lora:
    use: LoraUse
    files: ModelFiles


@dataclass(slots=True)
class _Laid:
    """What lies on a pipeline."""

    loras: tuple[_Lora, ...] = ()
    changes: ChangedLayers = field(default_factory=ChangedLayers)
    has_adapters: bool = False


class LoraAdapters(RenderFeature):
    """`loras` of a request. Knows which lie on which pipeline: the images of one job load them once."""

    def __init__(self) -> None:
        # Any: `load_lora_weights` and its kin belong to some pipelines only. Weak: a model that leaves memory
        # takes its LoRAs along.
        self._laid: WeakKeyDictionary[Any, _Laid] = WeakKeyDictionary()

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where this family takes none."""
        if task.request.loras and not hasattr(pipeline, "load_lora_weights"):
            raise RenderFailed(FailureReason.INVALID_REQUEST, f"{type(pipeline).__name__} takes no LoRA")

    def prepare(self, pipeline: Any, task: RenderTask) -> None:  # Any: see above
        """Have exactly this task's LoRAs on the pipeline; without any, its weights are as they were, to the last bit.

        Errors: RenderFailed (invalid_request where a LoRA was made for another model, model_missing), and then
        none is left.
        """
        loras = tuple(_Lora(use, task.assets[use.model_id]) for use in task.request.loras)
        if loras == self._laid.get(pipeline, _Laid()).loras:
            return
        self._remove(pipeline)
        try:
            # Noted before it is done, so that whatever goes wrong half-way is removed.
            self._laid[pipeline] = laid = _Laid(loras)
            weights = {}
            for number, lora in enumerate(loras):
                if (weight := _lay(pipeline, lora, number, task, laid)) is not None:
                    weights[_adapter(number)] = weight
            if weights:
                pipeline.set_adapters(list(weights), list(weights.values()))
        except BaseException:
            self._remove(pipeline)
            raise

    def _remove(self, pipeline: Any) -> None:  # Any: see above
        if (laid := self._laid.pop(pipeline, None)) is not None:
            laid.changes.lift()
            if laid.has_adapters:
                pipeline.unload_lora_weights()


def _adapter(number: int) -> str:
    return f"lora_{number}"


def _lay(
    pipeline: Any, lora: _Lora, number: int, task: RenderTask, laid: _Laid
) -> float | dict[str, float] | None:  # Any: see LoraAdapters
    """Lay one over the pipeline; the weights of an adapter of peft, None where it is none."""
    tensors = _tensors(lora, file := _file(lora))
    if not changes_weights(tensors):
        laid.has_adapters = True
        _load(pipeline, lora, number, task, file, tensors)
        return _weights(pipeline, _adapter(number), lora.use)
    try:
        laid.changes.add(pipeline, tensors, lambda part: _weight(lora.use, part))
    except ValueError as error:
        raise _misfit(lora, task, str(error)) from error
    return None


def _load(
    pipeline: Any, lora: _Lora, number: int, task: RenderTask, file: Path, tensors: Tensors
) -> None:  # Any: see LoraAdapters
    name = _adapter(number)
    try:
        keys = renamed(pipeline, tensors)
        pipeline.load_lora_weights(
            str(file.parent), weight_name=file.name, adapter_name=name, use_safetensors=True, local_files_only=True
        )
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _misfit(lora, task, _of_kind(tensors, " ".join(str(error).split()))) from error
    # Layers of another architecture are passed over in silence.
    if not any(name in names for names in pipeline.get_list_adapters().values()):
        raise _misfit(lora, task, "none of its layers are there")
    if (problem := problem_of(pipeline, keys, name)) is not None:
        raise _misfit(lora, task, _of_kind(tensors, problem))


def _weights(pipeline: Any, name: str, use: LoraUse) -> float | dict[str, float]:  # Any: see LoraAdapters
    """One weight for all that a LoRA has layers in, or one for each of them."""
    if use.text_weight is None:
        return use.weight
    has = (part for part, names in pipeline.get_list_adapters().items() if name in names)
    return {part: _weight(use, part) for part in has}


def _weight(use: LoraUse, part: str) -> float:
    is_text = part.startswith(TEXT_ENCODER)
    return use.text_weight if is_text and use.text_weight is not None else use.weight


def _of_kind(tensors: Tensors, problem: str) -> str:
    kind = unread_format(tensors)
    return (
        problem if kind is None else f"it is a {kind}, which is not applied as a whole; take a plain LoRA ({problem})"
    )


def _tensors(lora: _Lora, file: Path) -> Tensors:
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        message = f"LoRA {lora.use.model_id}: {file.name} cannot be read: {first_line(error)}"
        raise RenderFailed(FailureReason.MODEL_BROKEN, message) from error


def _file(lora: _Lora) -> Path:
    path = Path(lora.files.path)
    try:
        return path if path.is_file() else lora_file(path)
    except ModelUnusable as error:
        # Of the same digest, the folder has the same files on every runner.
        raise RenderFailed(FailureReason.MODEL_BROKEN, f"LoRA {lora.use.model_id} does not load: {error}") from error


def _misfit(lora: _Lora, task: RenderTask, why: str) -> RenderFailed:
    message = f"LoRA {lora.use.model_id} does not fit {task.request.model_id}: {why}"
    return RenderFailed(FailureReason.INVALID_REQUEST, message)
