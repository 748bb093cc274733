"""Downloads all files of a model concurrently; each becomes visible only when it is correct."""

import asyncio
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dreamforge.cli.models.errors import DiskFull, DownloadFailed, DownloadRunning
from dreamforge.cli.models.fetch import Fetcher
from dreamforge.cli.models.partial_file import ExpectedFile, PartialFile, free_bytes
from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.models.descriptor import ModelFile
from dreamforge.contracts.models.descriptor_file import refuse_pickle

#: Concurrent files: enough to use a fast link that one connection cannot fill, few enough for any server.
PARALLEL_FILES = 4
LOCK_NAME = ".download.lock"


@dataclass(frozen=True, slots=True)
class FileDownload:
    """A file and its location: a URL, or a path on this machine."""

    wanted: ExpectedFile
    location: str | Path


@dataclass(slots=True)
class Downloader:
    """Downloads the files of a model into its folder."""

    fetcher: Fetcher
    free_bytes: Callable[[Path], int] = free_bytes
    parallel: int = PARALLEL_FILES
    on_start: Callable[[ExpectedFile], None] = lambda _: None
    on_done: Callable[[ModelFile], None] = lambda _: None
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.parallel)

    async def download(self, orders: Sequence[FileDownload], folder: Path) -> tuple[ModelFile, ...]:
        """Download every file into `folder`, except those that are there and correct; all files, ordered by path.

        After a failure the partial files stay hidden, and the next download resumes.
        Errors: PickleRefused, DiskFull, DownloadFailed, DownloadRunning.
        """
        for order in orders:
            refuse_pickle(order.wanted.path)
        with _locked(folder):
            present = await asyncio.to_thread(_verified_files, orders, folder)
            self._check_space(orders, folder, present)
            found = await self._download_all([order for order in orders if order.wanted.path not in present], folder)
        return tuple(sorted((*present.values(), *found), key=lambda file: file.path))

    def _check_space(self, orders: Sequence[FileDownload], folder: Path, present: dict[str, ModelFile]) -> None:
        missing = [PartialFile(folder, order.wanted) for order in orders if order.wanted.path not in present]
        needed = sum(max(0, (each.wanted.size_bytes or 0) - each.size_bytes) for each in missing)
        if needed > (free := self.free_bytes(folder)):
            raise DiskFull(str(folder), needed, free)

    async def _download_all(self, orders: list[FileDownload], folder: Path) -> list[ModelFile]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._download_one(order, folder)) for order in orders]
        except BaseExceptionGroup as group_error:
            raise _error_to_show(group_error) from group_error
        return [task.result() for task in tasks]

    async def _download_one(self, order: FileDownload, folder: Path) -> ModelFile:
        partial = PartialFile(folder, order.wanted)
        async with self._slots:
            self.on_start(order.wanted)
            if isinstance(order.location, Path):
                found = await asyncio.to_thread(_copy, order.location, partial)
            else:
                found = await self.fetcher.fetch(order.location, partial)
            await asyncio.to_thread(partial.commit)
        self.on_done(found)
        return found


def _verified_files(orders: Sequence[FileDownload], folder: Path) -> dict[str, ModelFile]:
    found = (PartialFile(folder, order.wanted).verified_final() for order in orders)
    return {file.path: file for file in found if file is not None}


def _copy(source: Path, partial: PartialFile) -> ModelFile:
    """Errors: DownloadFailed, DiskFull."""
    partial.discard()
    partial.final.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, partial.path)
    except FileNotFoundError:
        raise DownloadFailed(partial.wanted.path, str(source), "the file does not exist") from None
    except OSError as error:
        raise partial.disk_error(error) from error
    found = partial.measured()
    if fault := partial.fault(found):
        partial.discard()
        raise DownloadFailed(partial.wanted.path, str(source), fault)
    return found


def _error_to_show(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show: a ForgeError if there is one, else the first."""
    leaves = list(_leaves(group))
    return next((error for error in leaves if isinstance(error, ForgeError)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One download for each folder. The kernel releases the lock when the process ends. Errors: DownloadRunning."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_NAME, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadRunning(str(folder)) from None
        yield
    finally:
        os.close(descriptor)
