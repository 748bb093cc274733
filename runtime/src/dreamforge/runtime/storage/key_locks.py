"""Replaces objects of the embedded store whole: rclone deletes what a put replaces, and renames the new file then.

In between, readers find nothing, another put of the key fails, and a server that is killed has lost an object that was
acknowledged (decision 0097). So all processes of this machine take turns by key, by locks in the store's private
folder, and what is replaced has a second name there for as long as that takes.
"""

import contextlib
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote
from zlib import crc32

from dreamforge.runtime import clock
from dreamforge.runtime.storage.s3_client import UNIX

# Files with one lock each, in a folder beside the objects. Two keys that share one wait for each other, no more.
LOCKS, LOCKS_COUNT = "locks", 64
OBJECTS, REPLACED = "objects", "replaced"
# How often a lock that another has is tried again: about the time of a small put.
RETRY_SECONDS = 0.002


class KeyLocks:
    """Locks of keys of one bucket, between threads and processes; none for a store that replaces in one step."""

    def __init__(self, endpoint: str, bucket: str, *, timeout_seconds: float) -> None:
        """`endpoint`: FORGE_S3_ENDPOINT. `timeout_seconds`: for how long a lock is waited for: TimeoutError then."""
        self._folder = Path(endpoint.removeprefix(UNIX)).parent if endpoint.startswith(UNIX) else None
        self._bucket, self._timeout_seconds = bucket, timeout_seconds

    @contextlib.contextmanager
    def reading(self, key: str) -> Iterator[None]:
        """Nobody writes this key meanwhile. Errors: TimeoutError, OSError."""
        with self._locked(fcntl.LOCK_SH, key):
            yield

    @contextlib.contextmanager
    def writing(self, key: str, *read: str) -> Iterator[None]:
        """Nobody reads or writes this key or those that are `read` for it meanwhile; what it had stays until it is
        replaced. Errors: TimeoutError, OSError."""
        with self._locked(fcntl.LOCK_EX, key, *read) as folder:
            if folder is None:
                yield
            else:
                with _kept(folder, f"{self._bucket}/{key}"):
                    yield

    @contextlib.contextmanager
    def removing(self, key: str) -> Iterator[None]:
        """Nobody reads or writes this key meanwhile. Errors: TimeoutError, OSError."""
        with self._locked(fcntl.LOCK_EX, key):
            yield

    @contextlib.contextmanager
    def _locked(self, kind: int, *keys: str) -> Iterator[Path | None]:
        with contextlib.ExitStack() as held:
            if self._folder is not None:
                locks = _private(self._folder / LOCKS)
                for number in sorted({crc32(key.encode()) % LOCKS_COUNT for key in keys}):  # in one order: no deadlock
                    held.enter_context(_lock(locks / f"{number:02}", kind, self._timeout_seconds))
            yield self._folder


def restore_replaced(folder: Path) -> None:
    """Put back what a store in `folder` had deleted and not replaced when it was killed. Before it starts."""
    for kept in _private(folder / REPLACED).iterdir():
        _put_back(kept, folder / OBJECTS / unquote(kept.name))


@contextlib.contextmanager
def _lock(path: Path, kind: int, timeout_seconds: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _await(lambda: fcntl.flock(descriptor, kind | fcntl.LOCK_NB), timeout_seconds, path)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _kept(folder: Path, name: str) -> Iterator[None]:
    path, kept = folder / OBJECTS / name, _private(folder / REPLACED) / quote(name, safe="")
    if not path.is_file():
        yield
        return
    _second_name(path, kept)
    try:
        yield
    finally:
        _put_back(kept, path)


def _put_back(kept: Path, path: Path) -> None:
    """Give an object that is gone its name back, or take the second one away."""
    if path.exists():
        kept.unlink(missing_ok=True)
    else:
        kept.rename(path)


def _second_name(path: Path, kept: Path) -> None:
    kept.unlink(missing_ok=True)  # of a process that was killed
    try:
        os.link(path, kept)
    except OSError:  # a file system without second names
        shutil.copyfile(path, kept)


def _private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _await(take: Callable[[], None], timeout_seconds: float, path: Path) -> None:
    until = clock.monotonic_seconds() + timeout_seconds
    while True:
        try:
            return take()
        except BlockingIOError:
            if clock.monotonic_seconds() > until:
                message = f"another process has held the lock {path} for {timeout_seconds:g} s"
                raise TimeoutError(message) from None
            threading.Event().wait(RETRY_SECONDS)  # a lock of a file gives no notice when it is free
