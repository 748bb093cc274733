"""What we rely on of a diffusers pipeline, as a type: diffusers itself carries none. Import this only in the child."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import diffusers
import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError

from dreamforge.gpu_runner.rendering.weights import checkpoint_of

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


def read_pipeline(folder: Path, *, dtype: torch.dtype, variant: str | None) -> Pipeline:
    """A pipeline from its folder, and from nowhere else.

    Safetensors only: a pickle runs code when it is read (CVE-2025-32434, CVE-2026-24747).
    Errors: OSError, ValueError, KeyError, RuntimeError or ImportError, as diffusers happens to choose.
    """
    if (checkpoint := checkpoint_of(folder)) is not None:
        return _read_checkpoint(checkpoint, dtype)
    read: Any = diffusers.DiffusionPipeline.from_pretrained  # Any: it has no types
    pipeline: Pipeline = read(str(folder), dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant)
    return pipeline


def _read_checkpoint(checkpoint: Path, dtype: torch.dtype) -> Pipeline:
    """From one file with all weights; what class and configuration its parts have, the folder around it says."""
    folder = checkpoint.parent
    name = json.loads((folder / INDEX_NAME).read_text())["_class_name"]
    read = getattr(getattr(diffusers, name, None), "from_single_file", None)
    if read is None:
        raise ValueError(f"{name} cannot be read from one file; take the repository with a folder for each part")
    try:
        pipeline: Pipeline = read(str(checkpoint), config=str(folder), dtype=dtype, local_files_only=True)
    except SingleFileComponentError as error:
        raise ValueError(f"{checkpoint.name}: {str(error).partition(chr(10))[0]}") from error
    return pipeline


def part(class_name: str, **configuration: Any) -> Any:  # Any: diffusers' classes have no types
    """A new part of a pipeline, or a whole one, from its configuration."""
    return getattr(diffusers, class_name)(**configuration)
