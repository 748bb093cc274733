"""Replaces objects of the embedded store whole: rclone deletes what a put replaces, and renames the new file then.

In between, readers find nothing, another put of the key fails, and a server that is killed has lost an object that was
acknowledged (decision 0097). So all processes of this machine take turns by key, by locks in the store's private
folder, and what is replaced has a second name there for as long as that takes.

Folders have locks as well: rclone makes one with the first object in it and removes it with the last one. A put beside
either fails, or is acknowledged and lost (decision 0114). Who may make or remove a folder is alone there.
"""

import contextlib
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote
from zlib import crc32

from dreamforge.runtime import clock
from dreamforge.runtime.storage.unix_sockets import UNIX

# Files with one lock each, in a folder beside the objects. Two keys that share one wait for each other, no more.
LOCKS, LOCKS_COUNT = "locks", 64
OBJECTS, REPLACED = "objects", "replaced"
# Names of locks, each with LOCK_SH or LOCK_EX.
Locks = dict[str, int]
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
        with self._locked(lambda: self._keys(fcntl.LOCK_SH, key)):
            yield

    @contextlib.contextmanager
    def writing(self, key: str, *read: str) -> Iterator[None]:
        """Nobody reads or writes this key or those that are `read` for it meanwhile; what it had stays until it is
        replaced. Errors: TimeoutError, OSError."""
        with self._locked(lambda: self._keys(fcntl.LOCK_EX, key, *read) | self._made(key)) as folder:
            if folder is None:
                yield
            else:
                with _kept(folder, f"{self._bucket}/{key}"):
                    yield

    @contextlib.contextmanager
    def removing(self, key: str) -> Iterator[None]:
        """Nobody reads or writes this key meanwhile. Errors: TimeoutError, OSError."""
        with self._locked(lambda: self._keys(fcntl.LOCK_EX, key) | self._removed(key)):
            yield

    @contextlib.contextmanager
    def _locked(self, needed: Callable[[], Locks]) -> Iterator[Path | None]:
        """Hold what is needed, which is asked again once it is held: a folder may have come or gone meanwhile."""
        with contextlib.ExitStack() as held:
            if self._folder is not None:
                wanted = needed()
                while not _cover(wanted, found := self._taken(wanted, held, needed)):
                    held.close()
                    wanted = found
            yield self._folder

    def _taken(self, wanted: Locks, held: contextlib.ExitStack, needed: Callable[[], Locks]) -> Locks:
        """Take locks; what is needed now that they are held."""
        assert self._folder is not None
        folder = _private(self._folder / LOCKS)
        for name in sorted(wanted):  # in one order: no deadlock
            held.enter_context(_lock(folder / name, wanted[name], self._timeout_seconds))
        return needed()

    def _keys(self, kind: int, *keys: str) -> Locks:
        return {f"{_number(key):02}": kind for key in keys}

    def _made(self, key: str) -> Locks:
        """The folders of a key: alone in those that are not there yet."""
        return self._folders(key, lambda folder: not folder.is_dir())

    def _removed(self, key: str) -> Locks:
        """Likewise, alone in those that may become empty: its own, and those above it that have nothing else."""
        own = self._path(key).parent
        return self._folders(key, lambda folder: folder == own or _entries(folder) < 2)

    def _folders(self, key: str, alone: Callable[[Path], bool]) -> Locks:
        """By depth: what waits for a folder must not wait for all puts below another one that shares its number."""
        locks: Locks = {}
        for depth, name in enumerate(reversed(PurePosixPath(key).parents[:-1]), start=1):
            kind = fcntl.LOCK_EX if alone(self._path(str(name))) else fcntl.LOCK_SH
            locks[f"{depth}-{_number(str(name)):02}"] = kind
        return locks

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / OBJECTS / self._bucket / key


def restore_replaced(folder: Path) -> None:
    """Put back what a store in `folder` had deleted and not replaced when it was killed. Before it starts."""
    for kept in _private(folder / REPLACED).iterdir():
        _put_back(kept, folder / OBJECTS / unquote(kept.name))


def _number(name: str) -> int:
    return crc32(name.encode()) % LOCKS_COUNT


def _cover(held: Locks, needed: Locks) -> bool:
    """Whether each lock that is needed is held in that kind or alone."""
    return all(held.get(name) in (kind, fcntl.LOCK_EX) for name, kind in needed.items())


def _entries(folder: Path) -> int:
    """At most 2: whether there are more is not asked."""
    try:
        with os.scandir(folder) as found:
            return len(list(islice(found, 2)))
    except FileNotFoundError:
        return 0


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
