"""Uploaded images on this runner's disk: each fetched once, checked against the hash that names it."""

import asyncio
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dreamforge.contracts.errors import ArtifactNotFound, DependencyAway
from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import InputImage
from dreamforge.gpu_runner.supervisor.task_monitor import AttemptLost
from dreamforge.runtime import ids
from dreamforge.runtime.service import retry
from dreamforge.runtime.storage.objects import upload_key

#: Some hundred photographs: what is used again soon is still here, and a disk is not filled.
KEPT_BYTES = 1 << 30


class Objects(Protocol):
    """The part of the object store that inputs need."""

    async def get(self, key: str) -> bytes:
        """Read an object. Errors: ArtifactNotFound, DependencyAway."""
        ...


@dataclass(frozen=True, slots=True)
class InputCache:
    """A folder of uploads, the least recently used of them removed when it grows past `kept_bytes`."""

    objects: Objects
    folder: Path
    kept_bytes: int = KEPT_BYTES

    async def fetch(self, sha256: str) -> InputImage:
        """An upload as a file. Waits while the store is unavailable; cancel it to give up.

        Errors: AttemptLost (invalid_request) where the store has no such upload, or other bytes under its name.
        """
        path = self.folder / sha256
        if not await asyncio.to_thread(_touched, path):
            data = await self._get(sha256)
            await asyncio.to_thread(self._keep, path, data)
        return InputImage(path=str(path), sha256=sha256)

    async def _get(self, sha256: str) -> bytes:
        try:
            data = await retry.until_it_works(
                "the object store", lambda: self.objects.get(upload_key(sha256)), DependencyAway
            )
        except ArtifactNotFound:
            raise AttemptLost(FailureReason.INVALID_REQUEST, f"there is no upload {sha256}", retryable=False) from None
        if (found := hashlib.sha256(data).hexdigest()) != sha256:
            message = f"upload {sha256} holds other bytes (sha256 {found})"
            raise AttemptLost(FailureReason.INVALID_REQUEST, message, retryable=False)
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        partial = path.with_name(f".{path.name}-{ids.new_id()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(data))
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            message = f"cannot keep upload {path.name} ({len(data)} bytes) in {self.folder}: {error.strerror}"
            raise AttemptLost(FailureReason.INTERNAL, message) from error

    def _make_room(self, coming_bytes: int) -> None:
        kept = sorted((entry.stat().st_mtime, entry) for entry in self.folder.iterdir() if entry.is_file())
        total_bytes = coming_bytes + sum(entry.stat().st_size for _, entry in kept)
        for _, entry in kept:
            if total_bytes <= self.kept_bytes:
                return
            total_bytes -= entry.stat().st_size
            entry.unlink(missing_ok=True)


def _touched(path: Path) -> bool:
    """Whether the file is there; now it is the most recently used one."""
    try:
        os.utime(path)
    except OSError:
        return False
    return True
