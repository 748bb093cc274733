"""From an id to a registered model: find its descriptor, bring its files, check the whole, tell the registry."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from dreamforge.cli.console import err
from dreamforge.cli.models.download import Downloader
from dreamforge.cli.models.fetch import TIMEOUT, Fetcher
from dreamforge.cli.models.library import ModelLibrary, checked, refuse_pickles, write
from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.cli.models.sources import Plan, SourceResolver
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelFile
from dreamforge.contracts.models.descriptor_file import CatalogEntry
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, Survey, survey


@dataclass(slots=True)
class DownloadBars:
    """A bar a file on stderr, where that is a terminal and nobody asked for JSON."""

    progress: Progress
    rows: dict[str, TaskID]

    @classmethod
    def shown(cls, *, quiet: bool) -> "DownloadBars":
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        return cls(Progress(*columns, console=err, disable=quiet or not err.is_terminal, transient=True), {})

    def start(self, wanted: ExpectedFile) -> None:
        self.rows[wanted.path] = self.progress.add_task(wanted.path, total=wanted.size_bytes)

    def grown(self, path: str, size_bytes: int) -> None:
        self.progress.update(self.rows[path], completed=size_bytes)

    def done(self, file: ModelFile) -> None:
        self.progress.update(self.rows[file.path], total=file.size_bytes, completed=file.size_bytes)


def client_of(settings: CliSettings) -> httpx.AsyncClient:
    """The token goes to the hub alone: httpx drops it on a redirect elsewhere, and mirrors never get it."""
    token, hub = settings.hub_token.get_secret_value(), httpx.URL(settings.hub_url)

    async def authorize(request: httpx.Request) -> None:
        if token and (request.url.scheme, request.url.host, request.url.port) == (hub.scheme, hub.host, hub.port):
            request.headers["Authorization"] = f"Bearer {token}"

    return httpx.AsyncClient(timeout=TIMEOUT, event_hooks={"request": [authorize]})


async def bring(
    settings: CliSettings, entry: CatalogEntry, *, mirror: str = "", beside: Path, quiet: bool = False
) -> tuple[ModelDescriptor, Path]:
    """Have the model's files in the models folder, whole and right; its descriptor and its folder.

    Errors: those of `SourceResolver.plan` and `Downloader.download`; ModelFilesWrong.
    """
    place = ModelLibrary(settings.models_dir).place(entry.model_id)
    bars = DownloadBars.shown(quiet=quiet)
    async with client_of(settings) as client:
        plan = await SourceResolver(client, settings.hub_url.rstrip("/")).plan(entry, mirror=mirror, beside=beside)
        with bars.progress:
            downloader = Downloader(Fetcher(client, bars.grown), on_start=bars.start, on_done=bars.done)
            files = await downloader.download(plan.orders, place)
        return await asyncio.to_thread(_settle, entry, plan, files, place), place


def _settle(entry: CatalogEntry, plan: Plan, files: tuple[ModelFile, ...], place: Path) -> ModelDescriptor:
    """Read the folder as a whole once more, and write down what it is: from now on a runner sees it."""
    refuse_pickles(place)
    source = plan.source.model_copy(update={"files": files})
    descriptor = checked(entry, source, place, survey(place))
    describe(place, descriptor)
    return descriptor


def describe(folder: Path, descriptor: ModelDescriptor) -> None:
    """Write the folder's dreamforge.json."""
    write(folder / DESCRIPTOR_NAME, descriptor.model_dump_json(indent=2) + "\n")


async def read_with_bar(folder: Path, *, quiet: bool) -> Survey:
    """Read every file of a model's folder. Errors: PickleRefused, FileNotFoundError."""
    await asyncio.to_thread(refuse_pickles, folder)
    bars = DownloadBars.shown(quiet=quiet)
    with bars.progress:
        row = bars.progress.add_task(f"reading {folder.name}", total=None)
        return await asyncio.to_thread(survey, folder, lambda count: bars.progress.advance(row, count))
