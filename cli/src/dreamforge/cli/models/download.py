"""Downloads all files of a model: checks the disk space first, several files at once, each visible when it is right.

Ours and not `huggingface_hub.snapshot_download`: that one knows repositories only (not mirrors, URLs and folders), does
not compare a file with a pinned hash before it appears under its name, and warns of a full disk file by file instead of
refusing a model before its first byte. Its knowledge of repositories is used in `hub`.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dreamforge.cli.models.errors import DiskFull, DownloadFailed, DownloadRunning, FolderTaken
from dreamforge.cli.models.fetch import Fetcher
from dreamforge.cli.models.partial_file import ExpectedFile, PartialFile, free_bytes
from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.models.descriptor import ModelFile
from dreamforge.contracts.models.model_files import refuse_files
from dreamforge.runtime.service.tasks import TaskGroup

#: Concurrent files: enough to use the bandwidth where one connection does not, few enough for any server.
PARALLEL_FILES = 4
LOCK_NAME = ".download.lock"


@dataclass(frozen=True, slots=True)
class FileDownload:
    """A file and its location: a URL, a path on this machine, or what it has, where that is known already."""

    expected: ExpectedFile
    location: str | Path | bytes


@dataclass(slots=True)
class Downloader:
    """Downloads the files of a model into its folder."""

    fetcher: Fetcher
    free_bytes: Callable[[Path], int] = free_bytes
    parallel: int = PARALLEL_FILES
    #: Link to files of this machine instead of copying them.
    link: bool = False
    on_start: Callable[[ExpectedFile], None] = lambda _: None
    on_done: Callable[[ModelFile], None] = lambda _: None
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.parallel)

    async def download(self, downloads: Sequence[FileDownload], folder: Path) -> tuple[ModelFile, ...]:
        """Download every file into `folder`; the files, in the order of their paths. Complete files stay.

        After a failure, hidden partial files remain, from which the next call resumes.
        Errors: PickleRefused, ModelFileRefused, FolderTaken, DiskFull, DownloadFailed, DownloadRunning.
        """
        refuse_files(each.expected.path for each in downloads)
        with _lock(folder):
            _refuse_links(downloads, folder)
            complete = await asyncio.to_thread(_complete_files, downloads, folder)
            self._check_space(downloads, folder, complete)
            found = await self._all([each for each in downloads if each.expected.path not in complete], folder)
        return tuple(sorted((*complete.values(), *found), key=lambda file: file.path))

    def _check_space(self, downloads: Sequence[FileDownload], folder: Path, complete: dict[str, ModelFile]) -> None:
        copied = [each for each in downloads if not (self.link and isinstance(each.location, Path))]
        missing = [PartialFile(folder, each.expected) for each in copied if each.expected.path not in complete]
        needed = sum(max(0, (each.expected.size_bytes or 0) - each.size_bytes) for each in missing)
        if needed > (free := self.free_bytes(folder)):
            raise DiskFull(str(folder), needed, free)

    async def _all(self, downloads: list[FileDownload], folder: Path) -> list[ModelFile]:
        try:
            async with TaskGroup() as group:
                tasks = [group.create_task(self._one(each, folder)) for each in downloads]
        except BaseExceptionGroup as group_error:
            raise _own_error(group_error) from group_error
        return [task.result() for task in tasks]

    async def _one(self, each: FileDownload, folder: Path) -> ModelFile:
        partial = PartialFile(folder, each.expected)
        async with self._slots:
            self.on_start(each.expected)
            if not isinstance(each.location, str):
                found = await asyncio.to_thread(_copy, each.location, partial, link=self.link)
            else:
                found = await self.fetcher.fetch(each.location, partial)
            await asyncio.to_thread(partial.commit)
        self.on_done(found)
        return found


def _complete_files(downloads: Sequence[FileDownload], folder: Path) -> dict[str, ModelFile]:
    found = (PartialFile(folder, each.expected).complete_file() for each in downloads)
    return {file.path: file for file in found if file is not None}


def _copy(source: Path | bytes, partial: PartialFile, *, link: bool) -> ModelFile:
    """Errors: DownloadFailed, DiskFull."""
    partial.discard()
    partial.target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if isinstance(source, bytes):
            partial.path.write_bytes(source)
        elif link:
            partial.path.symlink_to(source.resolve(strict=True))
        else:
            shutil.copyfile(source, partial.path)
    except FileNotFoundError:
        raise DownloadFailed(partial.expected.path, str(source), "the file does not exist") from None
    except OSError as error:
        raise partial.as_disk_full(error) from error
    found = partial.measure()
    if fault := partial.fault(found):
        partial.discard()
        said = source if isinstance(source, Path) else "what its descriptor makes of it"
        raise DownloadFailed(partial.expected.path, str(said), fault)
    return found


def _refuse_links(downloads: Sequence[FileDownload], folder: Path) -> None:
    """Errors: FolderTaken where a folder in which a file would be written is a link to elsewhere."""
    for parent in {parent for each in downloads for parent in Path(each.expected.path).parents}:
        if parent != Path() and (folder / parent).is_symlink():
            raise FolderTaken(str(folder), folder.name, f"its {parent} is a link: move it, or remove the model first")


def _own_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to report: a ForgeError, if there is one."""
    leaves = list(_leaves(group))
    return next((error for error in leaves if isinstance(error, ForgeError)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Allow one download a folder. The lock ends with the process. Errors: DownloadRunning."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadRunning(str(folder)) from None
        yield
    finally:
        os.close(descriptor)
