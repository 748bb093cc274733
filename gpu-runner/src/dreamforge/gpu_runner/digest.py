"""The identity of a model folder: what was loaded, whatever its name says."""

import hashlib
from pathlib import Path

#: Read size; large enough that hashing (1 GB/s) and not system calls decides.
CHUNK_BYTES = 1 << 20
#: A `ModelDescriptor` as JSON, beside diffusers' own model_index.json.
DESCRIPTOR_NAME = "dreamforge.json"


def model_digest(folder: Path) -> str:
    """SHA-256 over every file of a model folder, so that a recipe names weights and not a path.

    Hashed in sorted order of relative path: the path's length and bytes, the content's length and bytes.
    The lengths keep two different folders from ever spelling the same input. Left out are hidden files and
    folders, which belong to download tools, and our own descriptor, which states this digest.

    Units: 64 lower-case hex digits out. About 1 s per GB.
    Errors: FileNotFoundError if the folder is not there or holds no file.
    """
    files = sorted(_files(folder), key=lambda path: path.relative_to(folder).as_posix())
    if not files:
        raise FileNotFoundError(f"no model files in {folder}")
    total = hashlib.sha256()
    for path in files:
        name = path.relative_to(folder).as_posix().encode()
        total.update(len(name).to_bytes(8, "big") + name)
        total.update(path.stat().st_size.to_bytes(8, "big"))
        _update_from_file(total, path)
    return total.hexdigest()


def folder_bytes(folder: Path) -> int:
    """Size of a model folder on disk, in bytes, counting what `model_digest` counts."""
    return sum(path.stat().st_size for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and path != folder / DESCRIPTOR_NAME and not _is_hidden(path.relative_to(folder))
    ]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _update_from_file(total: "hashlib._Hash", path: Path) -> None:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            total.update(chunk)
