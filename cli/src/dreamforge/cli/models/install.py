"""Installs a model: finds its files, downloads them, checks the folder and writes its descriptor."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from dreamforge.cli.console import err
from dreamforge.cli.models.download import Downloader
from dreamforge.cli.models.fetch import TIMEOUT, Fetcher
from dreamforge.cli.models.library import ModelLibrary, checked, refuse_pickles, write_atomically
from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.cli.models.sources import Plan, SourceResolver
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelFile
from dreamforge.contracts.models.descriptor_file import CatalogEntry
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, Survey, survey


@dataclass(slots=True)
class DownloadBars:
    """A progress bar for each file on stderr, if that is a terminal and the output is not JSON."""

    progress: Progress
    rows: dict[str, TaskID]

    @classmethod
    def shown(cls, *, quiet: bool) -> "DownloadBars":
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        return cls(Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True), {})

    def start(self, wanted: ExpectedFile) -> None:
        self.rows[wanted.path] = self.progress.add_task(wanted.path, total=wanted.size_bytes)

    def advance(self, path: str, size_bytes: int) -> None:
        self.progress.update(self.rows[path], completed=size_bytes)

    def finish(self, file: ModelFile) -> None:
        self.progress.update(self.rows[file.path], total=file.size_bytes, completed=file.size_bytes)


def client_of(settings: CliSettings) -> httpx.AsyncClient:
    """HTTP client that sends the token to the hub only: httpx drops it on redirects, and mirrors never get it."""
    token, hub = settings.hub_token.get_secret_value(), httpx.URL(settings.hub_url)

    async def authorize(request: httpx.Request) -> None:
        if token and (request.url.scheme, request.url.host, request.url.port) == (hub.scheme, hub.host, hub.port):
            request.headers["Authorization"] = f"Bearer {token}"

    return httpx.AsyncClient(timeout=TIMEOUT, event_hooks={"request": [authorize]})


async def install(
    settings: CliSettings, entry: CatalogEntry, *, mirror: str = "", base_folder: Path, quiet: bool = False
) -> tuple[ModelDescriptor, Path]:
    """Download the model's files into the models folder and check them; its descriptor and its folder.

    Errors: those of `SourceResolver.plan` and `Downloader.download`; ModelFilesWrong.
    """
    folder = ModelLibrary(settings.models_dir).folder_of(entry.model_id)
    bars = DownloadBars.shown(quiet=quiet)
    async with client_of(settings) as client:
        plan = await SourceResolver(client, settings.hub_url.rstrip("/")).plan(entry, mirror=mirror, beside=base_folder)
        with bars.progress:
            downloader = Downloader(Fetcher(client, bars.advance), on_start=bars.start, on_done=bars.finish)
            files = await downloader.download(plan.orders, folder)
        return await asyncio.to_thread(_finish, entry, plan, files, folder), folder


def _finish(entry: CatalogEntry, plan: Plan, files: tuple[ModelFile, ...], folder: Path) -> ModelDescriptor:
    """Read the complete folder again and write its descriptor, which makes it visible to runners."""
    refuse_pickles(folder)
    source = plan.source.model_copy(update={"files": files})
    descriptor = checked(entry, source, folder, survey(folder))
    write_descriptor(folder, descriptor)
    return descriptor


def write_descriptor(folder: Path, descriptor: ModelDescriptor) -> None:
    """Write the folder's dreamforge.json."""
    write_atomically(folder / DESCRIPTOR_NAME, descriptor.model_dump_json(indent=2) + "\n")


async def read_with_bar(folder: Path, *, quiet: bool) -> Survey:
    """Read every file of a model's folder. Errors: PickleRefused, FileNotFoundError."""
    await asyncio.to_thread(refuse_pickles, folder)
    bars = DownloadBars.shown(quiet=quiet)
    with bars.progress:
        row = bars.progress.add_task(f"reading {folder.name}", total=None)
        return await asyncio.to_thread(survey, folder, lambda count: bars.progress.advance(row, count))
