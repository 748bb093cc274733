"""A model's folder on disk: its digest, its files, and which of them are wrong. Blocking; call it in a thread."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dreamforge.contracts.errors import Conflict
from dreamforge.contracts.models.descriptor import ModelFile
from dreamforge.contracts.models.model_files import ModelFileRefused, refuse_file

#: Read size; large enough that hashing (1 GB/s), not system calls, limits the speed.
CHUNK_BYTES = 1 << 20
#: A `ModelDescriptor` as JSON, beside diffusers' own model_index.json.
DESCRIPTOR_NAME = "dreamforge.json"


def _nothing(_: int) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Survey:
    """The result of reading a folder once: the digest of the whole, and every file."""

    digest: str
    files: tuple[ModelFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes that were read."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class Fault:
    """One file that is not as pinned."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(eq=False)
class ModelFilesWrong(Conflict):
    """The files of a model's folder are not those of its descriptor."""

    code = "model_files_wrong"
    folder: str
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return f"{self.folder} does not match its descriptor:\n" + "\n".join(f"  {fault}" for fault in self.faults)


def model_digest(folder: Path) -> str:
    """SHA-256 over every file of a model folder, so that a recipe names weights and not a path.

    Hashed in sorted order of relative path: the path's length and bytes, the content's length and bytes.
    The lengths keep two different folders from giving the same input. Left out are hidden files and
    folders, which belong to download tools, and our own descriptor, which states this digest.

    Units: 64 lower-case hex digits out. About 1 s per GB.
    Errors: FileNotFoundError if the folder is not there or holds no file.
    """
    return _read(folder, each=False, on_bytes=_nothing).digest


def survey(folder: Path, on_bytes: Callable[[int], None] = _nothing) -> Survey:
    """The folder's digest (see `model_digest`) and each file's own, in one pass, at half the speed.

    `on_bytes` is called with the number of bytes just read. Errors: FileNotFoundError, as `model_digest`.
    """
    return _read(folder, each=True, on_bytes=on_bytes)


def folder_bytes(folder: Path) -> int:
    """Size of a model folder on disk, in bytes, counting what `model_digest` counts."""
    return sum(path.stat().st_size for path in files_of(folder))


def files_of(folder: Path) -> list[Path]:
    """Every file that belongs to the model, sorted by relative path."""
    found = [path for path in folder.rglob("*") if path.is_file() and _counts(path.relative_to(folder))]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def refuse_foreign_files(folder: Path) -> None:
    """Refuse a folder with something that is not read as a file of a model, or that the digest does not cover.

    Hidden files are neither: nothing that loads a model reads them. A file may be a link, a folder may not.
    Errors: PickleRefused, ModelFileRefused.
    """
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not _counts(relative):
            continue
        if path.is_dir():
            if path.is_symlink():
                raise ModelFileRefused(relative.as_posix(), "it is a link to a folder, whose files nothing checks")
        elif path.is_file():
            refuse_file(relative.as_posix())
        else:
            raise ModelFileRefused(relative.as_posix(), "it is neither a file nor a folder, or a link to nothing")


def faults_of(pinned: tuple[ModelFile, ...], found: tuple[ModelFile, ...]) -> tuple[Fault, ...]:
    """What is missing, changed, swapped or extra; () when a folder holds exactly the pinned files. Pure."""
    here = {file.path: file for file in found}
    names = {file.sha256: file.path for file in pinned}
    faults = [fault for file in pinned if (fault := _fault(file, here.get(file.path), names)) is not None]
    extra = sorted(here.keys() - {file.path for file in pinned})
    return (*faults, *(Fault(path, "does not belong to this model: remove it") for path in extra))


def _fault(pinned: ModelFile, found: ModelFile | None, names: dict[str, str]) -> Fault | None:
    if found is None:
        return Fault(pinned.path, f"is missing; {pinned.size_bytes} bytes with sha256 {pinned.sha256} belong there")
    if found.sha256 == pinned.sha256:
        return None
    if found.sha256 in names:
        return Fault(pinned.path, f"has the content of {names[found.sha256]}: the two were swapped")
    if found.size_bytes != pinned.size_bytes:
        return Fault(pinned.path, f"has {found.size_bytes} bytes, but must have {pinned.size_bytes}")
    return Fault(pinned.path, f"has sha256 {found.sha256}, but must have {pinned.sha256}")


def _read(folder: Path, *, each: bool, on_bytes: Callable[[int], None]) -> Survey:
    paths = files_of(folder)
    if not paths:
        raise FileNotFoundError(f"no model files in {folder}")
    total = hashlib.sha256()
    files = []
    for path in paths:
        name, size = path.relative_to(folder).as_posix(), path.stat().st_size
        total.update(len(name.encode()).to_bytes(8, "big") + name.encode())
        total.update(size.to_bytes(8, "big"))
        own = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                total.update(chunk)
                if each:
                    own.update(chunk)
                on_bytes(len(chunk))
        if each:
            files.append(ModelFile(path=name, size_bytes=size, sha256=own.hexdigest()))
    return Survey(total.hexdigest(), tuple(files))


def _counts(path: Path) -> bool:
    return path.as_posix() != DESCRIPTOR_NAME and not any(part.startswith(".") for part in path.parts)
