"""What we rely on of a diffusers pipeline, as a type: diffusers itself carries none. Import this only in the child."""

from collections.abc import Mapping
from typing import Any, Protocol

import diffusers
import torch


class Pipeline(Protocol):
    """Any text-to-image pipeline of diffusers."""

    # Any: each pipeline has its own class of scheduler, untyped, and its own keywords and output type.
    scheduler: Any

    @property
    def components(self) -> Mapping[str, object]:
        """Its parts by name: models, tokenizers, scheduler."""
        ...

    def __call__(self, **arguments: Any) -> Any:
        """Paint."""
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


def read_pipeline(folder: str, *, dtype: torch.dtype, variant: str | None) -> Pipeline:
    """A pipeline from its folder, and from nowhere else.

    Safetensors only: a pickle runs code when it is read (CVE-2025-32434, CVE-2026-24747).
    Errors: OSError, ValueError, KeyError, RuntimeError or ImportError, as diffusers happens to choose.
    """
    read: Any = diffusers.DiffusionPipeline.from_pretrained  # Any: it has no types
    pipeline: Pipeline = read(folder, dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant)
    return pipeline


def part(class_name: str, **configuration: Any) -> Any:  # Any: diffusers' classes have no types
    """A new part of a pipeline, or a whole one, from its configuration."""
    return getattr(diffusers, class_name)(**configuration)
