"""Which files of a model's folder hold the weights that are loaded."""

from collections.abc import Iterator
from pathlib import Path

from dreamforge.runtime.storage.model_folder import files_of
from dreamforge.runtime.storage.weight_variants import choose_variant, part_weights

SUFFIXES = (".safetensors", ".gguf")


def weight_files(folder: Path) -> list[Path]:
    """Of each part the variant that is read, largest part first; a file of its own name is read as it is."""
    by_folder: dict[Path, list[Path]] = {}
    for file in files_of(folder):
        if file.suffix in SUFFIXES:
            by_folder.setdefault(file.parent, []).append(file)
    return sorted(_chosen(by_folder), key=lambda file: -file.stat().st_size)


def _chosen(by_folder: dict[Path, list[Path]]) -> Iterator[Path]:
    for folder, files in by_folder.items():
        complete = part_weights(file.name for file in folder.iterdir()).complete  # shards only with their list
        variant = choose_variant(complete)
        if variant is None:
            yield from files
        else:
            yield from (folder / name for name in complete[variant])
