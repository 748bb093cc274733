"""A file that is not complete yet: hidden beside its target, and moved there when it is right."""

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
    """A file of a model. None: not known yet; the downloaded file gets pinned."""

    path: str
    size_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class PartialFile:
    """`.NAME.part` beside the target, and `.NAME.etag` with the server's ETag of that content."""

    folder: Path
    expected: ExpectedFile

    @property
    def target(self) -> Path:
        """The path of the complete file."""
        return self.folder / self.expected.path

    @property
    def path(self) -> Path:
        """The path of the partial file; hidden, so that it does not count as a part of the model."""
        return self.target.with_name(f".{self.target.name}.part")

    @property
    def _etag(self) -> Path:
        return self.target.with_name(f".{self.target.name}.etag")

    @property
    def size_bytes(self) -> int:
        """Bytes received so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def etag(self) -> str:
        """The ETag of the content that these bytes are from; "" without one."""
        return self._etag.read_text() if self._etag.exists() else ""

    def open(self, offset: int, etag: str) -> FileIO:
        """Continue at `offset` and cut off the rest. Unbuffered, so that a full disk fails in `write`, not later."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(self.path, "r+" if self.path.exists() else "w+", opener=_open_itself)
        file.truncate(offset)
        file.seek(offset)
        if etag:
            self._etag.write_text(etag)
        else:
            self._etag.unlink(missing_ok=True)
        return file

    def write(self, file: FileIO, chunk: bytes) -> None:
        """Errors: DiskFull, with the bytes that are needed and free."""
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise self.as_disk_full(error) from error

    def as_disk_full(self, error: OSError) -> Exception:
        """DiskFull for the errors of a full disk, otherwise the error itself."""
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return error
        missing = max((self.expected.size_bytes or 0) - self.size_bytes, 1)
        return DiskFull(str(self.folder), missing, free_bytes(self.folder))

    def discard(self) -> None:
        """Delete what was received."""
        self.path.unlink(missing_ok=True)
        self._etag.unlink(missing_ok=True)

    def fault(self, found: ModelFile) -> str:
        """What is wrong with the received file; "" if nothing is known to be. Reads a header at most."""
        expected = self.expected
        if expected.size_bytes not in (None, found.size_bytes):
            return f"{found.size_bytes} bytes were received, but it must have {expected.size_bytes}"
        if expected.sha256 not in (None, found.sha256):
            return f"the received file has sha256 {found.sha256}, but must have {expected.sha256}"
        if expected.sha256 is None and self.target.suffix == ".safetensors":
            return safetensors_fault(self.path)
        return ""

    def measure(self, path: Path | None = None) -> ModelFile:
        """The size and sha256 of the partial file, or of `path`. Blocking."""
        digest, size = hashlib.sha256(), 0
        with (path or self.path).open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        return ModelFile(path=self.expected.path, size_bytes=size, sha256=digest.hexdigest())

    def complete_file(self) -> ModelFile | None:
        """The target, if it exists and has the pinned hash. Blocking."""
        if self.expected.sha256 is None or not self.target.is_file():
            return None
        if self.expected.size_bytes not in (None, self.target.stat().st_size):
            return None
        found = self.measure(self.target)
        return None if self.fault(found) else found

    def commit(self) -> None:
        """Move it to the target; synced first, so that a visible file is never lost in a crash. Blocking."""
        try:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise self.as_disk_full(error) from error
        self.path.replace(self.target)
        self._etag.unlink(missing_ok=True)
        sync_folder(self.target.parent)


def _open_itself(path: str, flags: int) -> int:
    """Open a file that is no link. Errors: OSError."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder, if the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
