"""A server's folder: the lock of the process that uses it, its secrets (readable by their owner only), its log."""

import asyncio
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dreamforge.runtime.embedded.errors import FolderInUse
from dreamforge.runtime.embedded.processes import identity
from dreamforge.runtime.private_folder import make_private, open_private

LOCK_NAME = "lock"
DYING_OWNER_SECONDS = 0.5  # `kill -9` returns before the process is dead: an owner counts as alive only after this long
LOG_LIMIT_BYTES = 16 * 2**20  # a larger log is renamed at the next start; one older log is kept


class FolderLock:
    """Held by us and, through inherited descriptors, by the guardians of the processes that we started.

    So it is free exactly when the last process of an earlier run is gone: a start right after a `kill -9` waits for
    that, and a start beside a living owner is refused with the owner's pid. Ours and not `filelock`: a FileLock does
    not share its descriptor with a child, and `filelock.lock_descriptor` is the flock below for 0.1 s of import.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self._path = folder / LOCK_NAME
        self._server = server
        self._file: IO[str] | None = None

    def fileno(self) -> int:
        assert self._file is not None, "the lock is not held"
        return self._file.fileno()

    async def acquire(self, dead_owner_seconds: float = 10.0) -> None:
        """Take the lock, in a folder that is private from then on.

        Errors: NotPrivate; FolderInUse when a living process holds it, or servers of a dead one do not end.
        """
        make_private(self._path.parent)
        file = os.fdopen(open_private(self._path, os.O_RDWR | os.O_CREAT), "r+", encoding="utf-8")
        try:
            if not await self._lock_within(file, DYING_OWNER_SECONDS):
                self._refuse_if_owner_lives(file)
                if not await self._lock_within(file, dead_owner_seconds):
                    raise self._refusal(0, "the servers of a process that died are still ending there")
            file.truncate(0)
            file.seek(0)
            file.write(identity(os.getpid()) or "")
            file.flush()
        except BaseException:
            file.close()
            raise
        self._file = file

    async def _lock_within(self, file: IO[str], seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while not _try_lock(file):  # noqa: ASYNC110 - flock has no event
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        return True

    def _refuse_if_owner_lives(self, file: IO[str]) -> None:
        file.seek(0)
        owner = file.read().strip()
        pid = int(owner.partition("-")[0] or 0)
        if pid and identity(pid) == owner:
            raise self._refusal(pid, f"process {pid} runs its servers there; stop that one first")

    def _refusal(self, owner_pid: int, why: str) -> FolderInUse:
        return FolderInUse(self._server, f"{self._path.parent} is in use: {why}", owner_pid=owner_pid)

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def kept_secrets(path: Path, make: Callable[[], dict[str, str]]) -> dict[str, str]:
    """The secrets in this file, made once; the file is 0600 from its first byte and appears only when complete."""
    if not path.exists():
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(make(), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def new_secret() -> str:
    """192 random bits from the kernel, in hexadecimal: safe in URLs, environments and configuration files.

    Not from `dreamforge.runtime.ids`: credentials must never follow a seed.
    """
    return os.urandom(24).hex()


def open_log(path: Path) -> IO[bytes]:
    """The log to append to, after renaming a large one; 0600, since logs may quote data of users."""
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return os.fdopen(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab")


def last_lines(path: Path, since_byte: int, count: int = 12) -> str:
    """The end of a log from a byte on, for an error message about the current run of its server."""
    with path.open("rb") as file:
        file.seek(since_byte)
        lines = file.read()[-8192:].decode(errors="replace").strip().splitlines()
    return "\n".join(f"    {line}" for line in lines[-count:])
