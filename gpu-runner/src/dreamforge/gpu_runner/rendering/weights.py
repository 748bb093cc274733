"""Which weight files of a model folder are loaded, and how much memory they will take, read from their headers."""

from pathlib import Path

from dreamforge.runtime.storage.checkpoint_layout import is_checkpoint, loaded_parts
from dreamforge.runtime.storage.model_facts import size_of
from dreamforge.runtime.storage.pipeline_folder import checkpoint_of
from dreamforge.runtime.storage.safetensors_header import read_header
from dreamforge.runtime.storage.weight_variants import choose_variant, part_weights


def loaded_bytes(folder: Path, float_bytes: int) -> int:
    """Bytes of a pipeline's parameters once they are loaded as floats of `float_bytes`.

    Counts what is read: safetensors files inside the folders of its parts, in one variant each, or one file for
    all of them. A file that is none counts as what it takes on disk: loading it says what is wrong.

    Units: bytes in and out. About 10 ms a folder.
    """
    return sum(_file_bytes(path, float_bytes) for path in weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The weight files that are loaded: of each part one variant."""
    if (checkpoint := checkpoint_of(folder)) is not None:
        return [checkpoint]
    parts = sorted({path.parent for path in folder.glob("*/*.safetensors")})
    return [path for part in parts for path in _files_of(part)]


def variant_of(part: Path) -> str | None:
    """Under which variant the weights of one part's folder are found: `fp16` and the like; None: without a name."""
    return choose_variant(part_weights(_names(part)).complete) or None


def _files_of(part: Path) -> list[Path]:
    weights = part_weights(_names(part)).complete
    variant = choose_variant(weights)
    return [part / name for name in (weights[variant] if variant is not None else sorted(_names(part, ".safetensors")))]


def _names(part: Path, ending: str = "") -> list[str]:
    return [path.name for path in part.iterdir() if path.is_file() and path.name.endswith(ending)]


def _file_bytes(path: Path, float_bytes: int) -> int:
    try:
        tensors = read_header(path).tensors
    except ValueError:
        return path.stat().st_size
    parts = loaded_parts(tensors) if is_checkpoint(tensors) else (tensors,)
    return sum(size_of(part.values()).loaded_bytes(float_bytes) for part in parts)
