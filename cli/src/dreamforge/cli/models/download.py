"""A whole model: room first, several files at once, each visible only when it is right."""

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

#: Files at a time: enough to fill a line where one connection does not, few enough for any server.
PARALLEL_FILES = 4
LOCK_NAME = ".download.lock"


@dataclass(frozen=True, slots=True)
class FileDownload:
    """A file and where it is: an URL, or a path on this machine."""

    wanted: ExpectedFile
    at: str | Path


@dataclass(slots=True)
class Downloader:
    """Brings a model's files into its folder."""

    fetcher: Fetcher
    room: Callable[[Path], int] = free_bytes
    parallel: int = PARALLEL_FILES
    on_start: Callable[[ExpectedFile], None] = lambda _: None
    on_done: Callable[[ModelFile], None] = lambda _: None
    _turn: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._turn = asyncio.Semaphore(self.parallel)

    async def download(self, orders: Sequence[FileDownload], folder: Path) -> tuple[ModelFile, ...]:
        """Have every file in `folder`; what they are, in the order of their paths. What is there already stays.

        A failure leaves what had come, hidden, to go on from.
        Errors: PickleRefused, DiskFull, DownloadFailed, DownloadRunning.
        """
        for order in orders:
            refuse_pickle(order.wanted.path)
        with _alone(folder):
            here = await asyncio.to_thread(_already, orders, folder)
            self._check_room(orders, folder, here)
            found = await self._all([order for order in orders if order.wanted.path not in here], folder)
        return tuple(sorted((*here.values(), *found), key=lambda file: file.path))

    def _check_room(self, orders: Sequence[FileDownload], folder: Path, here: dict[str, ModelFile]) -> None:
        missing = [PartialFile(folder, order.wanted) for order in orders if order.wanted.path not in here]
        needed = sum(max(0, (each.wanted.size_bytes or 0) - each.size_bytes) for each in missing)
        if needed > (free := self.room(folder)):
            raise DiskFull(str(folder), needed, free)

    async def _all(self, orders: list[FileDownload], folder: Path) -> list[ModelFile]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(order, folder)) for order in orders]
        except BaseExceptionGroup as group_error:
            raise _first(group_error) from group_error
        return [task.result() for task in tasks]

    async def _one(self, order: FileDownload, folder: Path) -> ModelFile:
        partial = PartialFile(folder, order.wanted)
        async with self._turn:
            self.on_start(order.wanted)
            if isinstance(order.at, Path):
                found = await asyncio.to_thread(_copy, order.at, partial)
            else:
                found = await self.fetcher.fetch(order.at, partial)
            await asyncio.to_thread(partial.commit)
        self.on_done(found)
        return found


def _already(orders: Sequence[FileDownload], folder: Path) -> dict[str, ModelFile]:
    found = (PartialFile(folder, order.wanted).already() for order in orders)
    return {file.path: file for file in found if file is not None}


def _copy(source: Path, partial: PartialFile) -> ModelFile:
    """Errors: DownloadFailed, DiskFull."""
    partial.discard()
    partial.final.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, partial.path)
    except FileNotFoundError:
        raise DownloadFailed(partial.wanted.path, str(source), "there is no such file") from None
    except OSError as error:
        raise partial.explained(error) from error
    found = partial.measured()
    if fault := partial.fault(found):
        partial.discard()
        raise DownloadFailed(partial.wanted.path, str(source), fault)
    return found


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that a person should read: one of ours, if there is one."""
    leaves = list(_leaves(group))
    return next((error for error in leaves if isinstance(error, ForgeError)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One download a folder. The lock goes with the process, however that ends. Errors: DownloadRunning."""
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
