"""Downloads the files of a model, checks the folder, and writes its descriptor."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from dreamforge.cli.console import err
from dreamforge.cli.models.download import Downloader
from dreamforge.cli.models.fetch import TIMEOUT, Fetcher
from dreamforge.cli.models.hub import ModelHub
from dreamforge.cli.models.library import ModelLibrary, checked_descriptor, refuse_pickles, write_atomically
from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.cli.models.sources import DownloadPlan, SourceResolver
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelFile
from dreamforge.contracts.models.descriptor_file import CatalogEntry
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, Survey, survey


@dataclass(slots=True)
class DownloadBars:
    """A progress bar for each file, on stderr if it is a terminal and output is not JSON."""

    progress: Progress
    rows: dict[str, TaskID]

    @classmethod
    def shown(cls, *, quiet: bool) -> "DownloadBars":
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        return cls(Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True), {})

    def start(self, expected: ExpectedFile) -> None:
        self.rows[expected.path] = self.progress.add_task(expected.path, total=expected.size_bytes)

    def grown(self, path: str, size_bytes: int) -> None:
        self.progress.update(self.rows[path], completed=size_bytes)

    def done(self, file: ModelFile) -> None:
        self.progress.update(self.rows[file.path], total=file.size_bytes, completed=file.size_bytes)


def client_of(settings: CliSettings) -> httpx.AsyncClient:
    """A client that sends the token to the hub only: httpx drops it on a redirect elsewhere, mirrors never get it."""
    token, hub = settings.hub_token.get_secret_value(), httpx.URL(settings.hub_url)

    async def authorize(request: httpx.Request) -> None:
        if token and (request.url.scheme, request.url.host, request.url.port) == (hub.scheme, hub.host, hub.port):
            request.headers["Authorization"] = f"Bearer {token}"

    return httpx.AsyncClient(timeout=TIMEOUT, event_hooks={"request": [authorize]})


def hub_of(settings: CliSettings) -> ModelHub:
    """The hub of the settings, with its token."""
    return ModelHub(settings.hub_url.rstrip("/"), settings.hub_token.get_secret_value())


async def download_model(
    settings: CliSettings, entry: CatalogEntry, *, mirror: str = "", base_folder: Path, quiet: bool = False
) -> tuple[ModelDescriptor, Path]:
    """Download and check the files of a model; its descriptor and its folder.

    Errors: those of `SourceResolver.plan` and `Downloader.download`; ModelFilesWrong.
    """
    folder = ModelLibrary(settings.models_dir).folder_of(entry.model_id)
    bars = DownloadBars.shown(quiet=quiet)
    async with client_of(settings) as client:
        plan = await SourceResolver(client, hub_of(settings)).plan(entry, mirror=mirror, base_folder=base_folder)
        with bars.progress:
            downloader = Downloader(Fetcher(client, bars.grown), on_start=bars.start, on_done=bars.done)
            files = await downloader.download(plan.downloads, folder)
        return await asyncio.to_thread(_finish, entry, plan, files, folder), folder


def _finish(entry: CatalogEntry, plan: DownloadPlan, files: tuple[ModelFile, ...], folder: Path) -> ModelDescriptor:
    """Check the whole folder and write its descriptor, with which a runner finds it."""
    refuse_pickles(folder)
    source = plan.source.model_copy(update={"files": files})
    descriptor = checked_descriptor(entry, source, folder, survey(folder))
    write_descriptor(folder, descriptor)
    return descriptor


def write_descriptor(folder: Path, descriptor: ModelDescriptor) -> None:
    """Write the folder's dreamforge.json."""
    write_atomically(folder / DESCRIPTOR_NAME, descriptor.model_dump_json(indent=2) + "\n")


async def survey_with_bar(folder: Path, *, quiet: bool) -> Survey:
    """Read every file of a model's folder, with a progress bar. Errors: PickleRefused, FileNotFoundError."""
    await asyncio.to_thread(refuse_pickles, folder)
    bars = DownloadBars.shown(quiet=quiet)
    with bars.progress:
        row = bars.progress.add_task(f"reading {folder.name}", total=None)
        return await asyncio.to_thread(survey, folder, lambda count: bars.progress.advance(row, count))
