"""How much memory a model folder will take, read from its headers before anything is loaded."""

import math
from pathlib import Path

from dreamforge.runtime.storage.safetensors_header import read_header

#: The numbers that loading casts to the precision asked for; all others stay as they are.
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
#: What a half-precision copy of a weight file is called.
HALF = ".fp16."


def loaded_bytes(folder: Path, float_bytes: int) -> int:
    """Bytes of a pipeline's parameters once they are loaded as floats of `float_bytes`.

    Counts what diffusers reads: safetensors files inside the folders of its parts, in one variant, or one file for
    all of them. A file that is none counts as what it takes on disk: loading it says what is wrong.

    Units: bytes in and out. About 10 ms a folder.
    """
    return sum(_file_bytes(path, float_bytes) for path in weight_files(folder))


def weight_files(folder: Path) -> list[Path]:
    """The weight files of one variant; the half-precision one only where a folder holds no other."""
    if (checkpoint := checkpoint_of(folder)) is not None:
        return [checkpoint]
    files = sorted(folder.glob("*/*.safetensors"))
    return [path for path in files if HALF not in path.name] or files


def checkpoint_of(folder: Path) -> Path | None:
    """The one file at the top that holds what the parts below it have no weights for; None where they have all."""
    bare = [part for part in folder.glob("*/config.json") if not any(part.parent.glob("*.safetensors"))]
    files = list(folder.glob("*.safetensors"))
    return files[0] if bare and len(files) == 1 else None


def variant_of(folder: Path) -> str | None:
    """`fp16` for a folder that holds its weights only so: diffusers finds them only under that name."""
    files = weight_files(folder) or sorted(folder.glob("*.safetensors"))
    return "fp16" if files and all(HALF in path.name for path in files) else None


def _file_bytes(path: Path, float_bytes: int) -> int:
    try:
        tensors = read_header(path).tensors.values()
    except ValueError:
        return path.stat().st_size
    return sum(math.prod(each.shape) * float_bytes if each.dtype in FLOATS else each.size_bytes for each in tensors)
