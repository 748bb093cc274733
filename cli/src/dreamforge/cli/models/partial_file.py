"""A file during its download: hidden next to its final path, and moved there only when it is correct."""

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
    """A file to download. None: unknown, so the content that arrives is pinned."""

    path: str
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PartialFile:
    """`.NAME.part` next to the final path, and `.NAME.etag` with the server's ETag of its content."""

    folder: Path
    wanted: ExpectedFile

    @property
    def final(self) -> Path:
        """The final path."""
        return self.folder / self.wanted.path

    @property
    def path(self) -> Path:
        """The path during the download; hidden, so that it is not read as a file of the model."""
        return self.final.with_name(f".{self.final.name}.part")

    @property
    def _etag(self) -> Path:
        return self.final.with_name(f".{self.final.name}.etag")

    @property
    def size_bytes(self) -> int:
        """Bytes downloaded so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def etag(self) -> str:
        """The server's ETag of this content; "" if it sent none."""
        return self._etag.read_text() if self._etag.exists() else ""

    def open(self, offset: int, etag: str) -> FileIO:
        """Continue at `offset` and drop the rest. Unbuffered: a full disk raises in `write`, not later."""
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
            raise self.disk_error(error) from error

    def disk_error(self, error: OSError) -> Exception:
        """DiskFull for a full disk, any other error unchanged."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return error
        missing = max((self.wanted.size_bytes or 0) - self.size_bytes, 1)
        return DiskFull(str(self.folder), missing, free_bytes(self.folder))

    def discard(self) -> None:
        """Delete the downloaded bytes."""
        self.path.unlink(missing_ok=True)
        self._etag.unlink(missing_ok=True)

    def fault(self, found: ModelFile) -> str:
        """What is wrong with the file; "" if no check fails. Reads at most a header."""
        wanted = self.wanted
        if wanted.size_bytes not in (None, found.size_bytes):
            return f"it has {found.size_bytes} bytes instead of {wanted.size_bytes}"
        if wanted.sha256 not in (None, found.sha256):
            return f"its sha256 is {found.sha256} instead of {wanted.sha256}"
        if wanted.sha256 is None and self.final.suffix == ".safetensors":
            return safetensors_fault(self.path)
        return ""

    def measured(self, path: Path | None = None) -> ModelFile:
        """Size and sha256 of the downloaded bytes. Blocking."""
        digest, size = hashlib.sha256(), 0
        with (path or self.path).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        return ModelFile(path=self.wanted.path, size_bytes=size, sha256=digest.hexdigest())

    def verified_final(self) -> ModelFile | None:
        """The file, if it is at its final path with the expected sha256. Blocking."""
        if self.wanted.sha256 is None or not self.final.is_file():
            return None
        if self.wanted.size_bytes not in (None, self.final.stat().st_size):
            return None
        found = self.measured(self.final)
        return None if self.fault(found) else found

    def commit(self) -> None:
        """Move it to its final path after fsync, so that a power failure cannot leave a broken file there. Blocking."""
        try:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise self.disk_error(error) from error
        self.path.replace(self.final)
        self._etag.unlink(missing_ok=True)
        sync_folder(self.final.parent)


def sync_folder(folder: Path) -> None:
    """fsync a folder, if the file system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def free_bytes(folder: Path) -> int:
    """Free bytes of the file system of `folder`, which may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
