"""A file that is not whole yet: hidden beside its place, and in its place only when it is right."""

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from dreamforge.cli.models.errors import DiskFull
from dreamforge.cli.models.safetensors import safetensors_fault
from dreamforge.contracts.models.descriptor import ModelFile
from dreamforge.runtime.storage.model_folder import CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """A file to have. None: nobody has said yet, so whatever comes is what gets pinned."""

    path: str
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PartialFile:
    """`.NAME.part` beside the file to be, and `.NAME.etag` with what the server called that content."""

    folder: Path
    wanted: ExpectedFile

    @property
    def final(self) -> Path:
        """Where the file belongs."""
        return self.folder / self.wanted.path

    @property
    def path(self) -> Path:
        """Where it grows; hidden, so that nobody takes it for a part of the model."""
        return self.final.with_name(f".{self.final.name}.part")

    @property
    def _etag(self) -> Path:
        return self.final.with_name(f".{self.final.name}.etag")

    @property
    def size_bytes(self) -> int:
        """Bytes that are here."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def etag(self) -> str:
        """What the server called the content these bytes are of; "" if it did not."""
        return self._etag.read_text() if self._etag.exists() else ""

    def open(self, offset: int, etag: str) -> FileIO:
        """Go on at `offset`, forgetting what lies behind it. Not buffered: a full disk shows in `write`, not later."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(self.path, "r+" if self.path.exists() else "w+")
        file.truncate(offset)
        file.seek(offset)
        if etag:
            self._etag.write_text(etag)
        else:
            self._etag.unlink(missing_ok=True)
        return file

    def write(self, file: FileIO, chunk: bytes) -> None:
        """Errors: DiskFull, with what is still needed and what is free."""
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise self.explained(error) from error

    def explained(self, error: OSError) -> Exception:
        """A disk that is full as DiskFull, any other trouble as it came."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return error
        missing = max((self.wanted.size_bytes or 0) - self.size_bytes, 1)
        return DiskFull(str(self.folder), missing, free_bytes(self.folder))

    def discard(self) -> None:
        """Forget what came."""
        self.path.unlink(missing_ok=True)
        self._etag.unlink(missing_ok=True)

    def fault(self, found: ModelFile) -> str:
        """What is wrong with what came; "" if it is right, as far as anybody can tell. Reads a header at most."""
        wanted = self.wanted
        if wanted.size_bytes not in (None, found.size_bytes):
            return f"{found.size_bytes} bytes came, but it must have {wanted.size_bytes}"
        if wanted.sha256 not in (None, found.sha256):
            return f"what came has sha256 {found.sha256}, but it must have {wanted.sha256}"
        if wanted.sha256 is None and self.final.suffix == ".safetensors":
            return safetensors_fault(self.path)
        return ""

    def measured(self, path: Path | None = None) -> ModelFile:
        """The size and sha256 of what is here. Blocking."""
        digest, size = hashlib.sha256(), 0
        with (path or self.path).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        return ModelFile(path=self.wanted.path, size_bytes=size, sha256=digest.hexdigest())

    def already(self) -> ModelFile | None:
        """The file, if it is in its place and certainly the right one. Blocking."""
        if self.wanted.sha256 is None or not self.final.is_file():
            return None
        if self.wanted.size_bytes not in (None, self.final.stat().st_size):
            return None
        found = self.measured(self.final)
        return None if self.fault(found) else found

    def commit(self) -> None:
        """Put it in its place: on the disk first, so that a name never stands for bytes that may be lost. Blocking."""
        try:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise self.explained(error) from error
        self.path.replace(self.final)
        self._etag.unlink(missing_ok=True)
        sync_folder(self.final.parent)


def sync_folder(folder: Path) -> None:
    """Have its names on the disk, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
