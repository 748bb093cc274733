"""What we rely on of a diffusers pipeline, as a type: diffusers itself carries none. Import this only in the child."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

import diffusers
import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError
from loguru import logger
from transformers import PreTrainedModel

from dreamforge.gpu_runner.rendering.checkpoint import check_checkpoint
from dreamforge.gpu_runner.rendering.eight_bit_layers import held_bytes
from dreamforge.gpu_runner.rendering.load_report import (
    LoadReport,
    WeightsWrong,
    check_complete,
    read_part,
    unknown_settings,
)
from dreamforge.gpu_runner.rendering.network_file import read_network_file
from dreamforge.runtime.storage.pipeline_folder import checkpoint_of
from dreamforge.runtime.storage.quantised import network_file, registering_module

#: diffusers' own list of a pipeline's parts.
INDEX_NAME = "model_index.json"


class Pipeline(Protocol):
    """Any text-to-image pipeline of diffusers."""

    # Any: each pipeline has its own class of scheduler, untyped, and its own keywords and output type.
    scheduler: Any

    @property
    def components(self) -> Mapping[str, object]:
        """Its parts by name: models, tokenizers, scheduler."""
        ...

    def __call__(self, **arguments: Any) -> Any:
        """Render."""
        ...

    def to(self, device: torch.device) -> "Pipeline":
        """Move its models to a device; itself."""
        ...

    def maybe_free_model_hooks(self) -> None:
        """Move parts that wait in the host's memory back there; nothing where none do."""
        ...

    def set_progress_bar_config(self, *, disable: bool) -> None:
        """Whether it draws a bar on the terminal."""
        ...

    def save_pretrained(self, folder: str, *, safe_serialization: bool) -> None:
        """Write it as a folder."""
        ...


@dataclass(frozen=True, slots=True)
class ReadPipeline:
    """A pipeline that was read, and what was found beside it."""

    pipeline: Pipeline
    report: LoadReport = field(default_factory=LoadReport)


def read_pipeline(folder: Path, *, dtype: torch.dtype) -> ReadPipeline:
    """A pipeline from its folder, and from nowhere else, with every weight that its parts need.

    Safetensors only: a pickle runs code when it is read (CVE-2025-32434, CVE-2026-24747). Each part in the variant
    that its folder has. What the files say of how the model was trained is laid over its scheduler.
    Errors: WeightsWrong; OSError, ValueError, KeyError, RuntimeError or ImportError, as diffusers happens to choose.
    """
    report = LoadReport()
    checkpoint = checkpoint_of(folder)
    if checkpoint is None:
        pipeline = _read_folder(folder, dtype, report)
    else:
        pipeline = _read_checkpoint(checkpoint, dtype, report)
    pipeline.scheduler = obeying(pipeline.scheduler, report)
    return ReadPipeline(pipeline, report)


def _read_folder(folder: Path, dtype: torch.dtype, report: LoadReport) -> Pipeline:
    parts = read_parts(folder, dtype, report)
    read: Any = diffusers.DiffusionPipeline.from_pretrained  # Any: it has no types
    pipeline: Pipeline = read(str(folder), dtype=dtype, use_safetensors=True, local_files_only=True, **parts)
    return pipeline


def read_parts(folder: Path, dtype: torch.dtype, report: LoadReport, **how: Any) -> dict[str, Any]:
    """The parts with weights of a pipeline's folder. `how`: see `read_part`. Any: untyped. Errors: WeightsWrong."""
    index = _index(folder)
    known = getattr(diffusers, str(index.get("_class_name")), None)
    if known is None:
        return {}
    takes = signature(known.__init__).parameters
    report.ignored_settings += [
        f"{INDEX_NAME}: {name}"
        for name, value in index.items()
        if name not in takes and not name.startswith("_") and value not in (None, False, [None, None])
    ]
    return {
        name: _read_part(part_class, folder / name, dtype, report, how)
        for name, part_class in classes_of_parts(folder).items()
        if name in takes and (folder / name).is_dir()
    }


def _read_part(
    part_class: Any, folder: Path, dtype: torch.dtype, report: LoadReport, how: dict[str, Any]
) -> Any:  # Any: as in `read_parts`
    file = network_file(folder.name, (each.name for each in folder.iterdir()))
    if file is None:
        if (quantiser := registering_module(_configuration(folder))) is not None:
            importlib.import_module(quantiser)
        return read_part(part_class, folder, folder.name, dtype, report, **how)
    return read_network_file(part_class, folder / file, dtype, report, without_memory=bool(how))


def _configuration(folder: Path) -> dict[str, Any]:  # Any: as in the file
    path = folder / "config.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def classes_of_parts(folder: Path) -> dict[str, Any]:  # Any: diffusers' classes have no types
    """The class of each part that has weights."""
    found = {name: _class_of_part(value) for name, value in _index(folder).items()}
    return {name: part_class for name, part_class in found.items() if part_class is not None}


def _index(folder: Path) -> dict[str, Any]:  # Any: as in the file
    index: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text())
    return index


def _class_of_part(value: object) -> Any:  # Any: diffusers' classes have no types
    """The class of a part that has weights, as the index of a pipeline names it: [library, class]; None: another."""
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)):
        return None
    library, name = value
    if library in ("diffusers", "transformers"):
        module: Any = importlib.import_module(library)
    else:
        module = getattr(diffusers.pipelines, library, None)
    found = getattr(module, name, None)
    has_weights = isinstance(found, type) and issubclass(found, (diffusers.ModelMixin, PreTrainedModel))
    return found if has_weights else None


def _read_checkpoint(checkpoint: Path, dtype: torch.dtype, report: LoadReport) -> Pipeline:
    """From one file with all weights; what class and configuration its parts have, the folder around it says."""
    folder = checkpoint.parent
    name = _index(folder)["_class_name"]
    read = getattr(getattr(diffusers, name, None), "from_single_file", None)
    if read is None:
        raise ValueError(f"{name} cannot be read from one file; take the repository with a folder for each part")
    check_checkpoint(checkpoint, classes_of_parts(folder), report)
    try:
        pipeline: Pipeline = read(str(checkpoint), config=str(folder), dtype=dtype, local_files_only=True)
    except SingleFileComponentError as error:
        raise ValueError(f"{checkpoint.name}: {str(error).partition(chr(10))[0]}") from error
    for part, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module):
            check_complete(part, module)
            report.ignored_settings += [f"{part}: {setting}" for setting in unknown_settings(module)]
    return pipeline


def obeying(scheduler: Any, report: LoadReport) -> Any:  # Any: see `Pipeline.scheduler`
    """The scheduler that predicts what the model was trained for. Errors: WeightsWrong where its class cannot."""
    settings = {name: value for name, value in report.scheduler_settings.items() if scheduler.config.get(name) != value}
    if not settings:
        return scheduler
    said = ", ".join(f"{name}: {value}" for name, value in settings.items())
    if unable := settings.keys() - signature(type(scheduler).__init__).parameters.keys():
        problem = (
            f"its weights are marked for {said}, and {type(scheduler).__name__} has no {', '.join(sorted(unable))}"
        )
        raise WeightsWrong("scheduler", f"{problem}; take EulerDiscreteScheduler in scheduler_config.json")
    logger.info("the weights are marked for {}: set on the scheduler", said)
    return type(scheduler).from_config(scheduler.config, **settings)


def part(class_name: str, **configuration: Any) -> Any:  # Any: diffusers' classes have no types
    """A new part of a pipeline, or a whole one, from its configuration."""
    return getattr(diffusers, class_name)(**configuration)


def pipeline_bytes(pipeline: Pipeline) -> int:
    """What the parameters and buffers of a pipeline take, wherever they are."""
    modules = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return sum(held_bytes(tensor) for tensor in tensors)
