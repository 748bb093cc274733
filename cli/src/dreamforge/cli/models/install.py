"""Downloads the files of a model, checks the folder, and writes its descriptor."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from dreamforge.cli.client.http import http_client
from dreamforge.cli.console import err
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.models.download import Downloader
from dreamforge.cli.models.errors import DownloadRunning
from dreamforge.cli.models.fetch import TIMEOUT, Fetcher
from dreamforge.cli.models.hub import ModelHub
from dreamforge.cli.models.library import (
    ModelLibrary,
    checked_descriptor,
    fitted_as_described,
    write_atomically,
)
from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.cli.models.remote_headers import copy_headers
from dreamforge.cli.models.sources import DownloadPlan, SourceResolver
from dreamforge.cli.models.weight_check import check_weights
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.hosts import bare, is_loopback
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelFile
from dreamforge.contracts.models.descriptor_file import CatalogEntry
from dreamforge.runtime.http.outgoing_rule import OutgoingRule
from dreamforge.runtime.network import internal_kind, networks_of
from dreamforge.runtime.storage.descriptor_fit import vram_of_files
from dreamforge.runtime.storage.model_facts import ModelFacts, ModelUnusable
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, Survey, refuse_foreign_files, survey
from dreamforge.runtime.storage.model_inspection import inspect_model


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


def client_of(settings: CliSettings, named: str = "") -> httpx.AsyncClient:
    """A client for servers that others name, in descriptors and redirects: it connects to no internal address.

    Except to the hub of the settings, the networks of the settings, and `named`: a URL that a person gave just now,
    where it says itself that it is of this machine or network. The token goes to the hub only, on its scheme, host and
    port. Errors: CommandError for a token that would go in clear; as `http_client`.
    """
    token, hub = settings.hub_token.get_secret_value(), httpx.URL(settings.hub_url)
    if token and hub.scheme != "https" and not is_loopback(hub.host):
        raise CommandError(
            f"FORGE_HUB_TOKEN is not sent to {hub.host} in clear",
            Exit.REFUSED,
            hint="use https in FORGE_HUB_URL, or leave the token out",
        )

    async def authorize(request: httpx.Request) -> None:
        if token and _server_of(request.url) == _server_of(hub):
            request.headers["Authorization"] = f"Bearer {token}"

    trusted = [hub, httpx.URL(named)] if _is_internal(named) else [hub]
    servers = frozenset(_server_of(url)[1:] for url in trusted)
    rule = OutgoingRule(networks_of(settings.download_networks), servers)
    return http_client(rule, timeout=TIMEOUT, event_hooks={"request": [authorize]})


def _server_of(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


def _is_internal(url: str) -> bool:
    """Whether a URL says itself, without a look at any server of names, that it is of this machine or network."""
    host = httpx.URL(url).host if "://" in url else ""
    try:
        return is_loopback(host) or internal_kind(bare(host)) != ""
    except ValueError:
        return False


async def _any(_: ModelDescriptor) -> None:
    """Approve every model."""


@dataclass(frozen=True, slots=True)
class Installer:
    """Brings the files of models into the models folder. `link`: links to files of this machine, no copies."""

    settings: CliSettings
    client: httpx.AsyncClient
    quiet: bool = False
    link: bool = False

    @property
    def library(self) -> ModelLibrary:
        """The models folder."""
        return ModelLibrary(self.settings.models_dir)

    async def plan(self, entry: CatalogEntry, *, mirror: str = "", base_folder: Path = Path()) -> DownloadPlan:
        """Which files to download. Errors: those of `SourceResolver.plan`."""
        resolver = SourceResolver(self.client, ModelHub(self.settings.hub_url.rstrip("/"), self.client))
        return await resolver.plan(entry, mirror=mirror, base_folder=base_folder)

    async def facts_of(self, plan: DownloadPlan) -> ModelFacts:
        """What these files are, before they are downloaded. Errors: ModelUnusable, DownloadFailed."""
        with TemporaryDirectory(prefix="dreamforge-headers-") as temporary:
            await copy_headers(self.client, plan.downloads, Path(temporary))
            return await asyncio.to_thread(_inspect_headers, Path(temporary), plan)

    async def install(
        self, entry: CatalogEntry, plan: DownloadPlan, approve: Callable[[ModelDescriptor], Awaitable[None]] = _any
    ) -> tuple[ModelDescriptor, Path]:
        """Download and check the files; the descriptor, once `approve` did not refuse it, and the folder.

        Errors: those of `Downloader.download` and `approve`; FolderTaken, ModelFilesWrong, ModelUnusable.
        """
        had_folder = self.library.find_folder(entry.model_id) is not None
        is_new = not had_folder and not (self.library.folder / entry.model_id).exists()
        folder = self.library.claim(entry.model_id)
        try:
            descriptor = await self._fill(folder, entry, plan)
            await asyncio.to_thread(check_weights, self.settings, folder, descriptor.kind)
            await approve(descriptor)
        except DownloadRunning:
            raise  # the folder is the other one's
        except ForgeError as error:
            if is_new and not any(isinstance(each.location, str) for each in plan.downloads):
                shutil.rmtree(folder)  # copies: only a download is worth being resumed
                if isinstance(error, ModelUnusable):
                    raise _of_source(error, plan) from None
            raise
        write_descriptor(folder, descriptor)
        return descriptor, folder

    async def _fill(self, folder: Path, entry: CatalogEntry, plan: DownloadPlan) -> ModelDescriptor:
        bars = DownloadBars.shown(quiet=self.quiet)
        with bars.progress:
            fetcher = Fetcher(self.client, bars.grown)
            downloader = Downloader(fetcher, on_start=bars.start, on_done=bars.done, link=self.link)
            files = await downloader.download(plan.downloads, folder)
        return await asyncio.to_thread(_described, entry, plan, files, folder)


async def download_model(
    settings: CliSettings, entry: CatalogEntry, *, mirror: str = "", base_folder: Path, quiet: bool = False
) -> tuple[ModelDescriptor, Path]:
    """Download and check the files of a model; its descriptor and its folder.

    What cannot be rendered with is refused before its weights are downloaded.
    Errors: those of `SourceResolver.plan` and `Installer.install`.
    """
    async with client_of(settings, mirror) as client:
        installer = Installer(settings, client, quiet=quiet)
        plan = await installer.plan(entry, mirror=mirror, base_folder=base_folder)
        if not entry.pinned:
            facts = await installer.facts_of(plan)
            fitted_as_described(entry.describe("0" * 64, vram=vram_of_files(facts, entry.family)), facts)
        return await installer.install(entry, plan)


def _inspect_headers(folder: Path, plan: DownloadPlan) -> ModelFacts:
    """Inspect a folder that is gone afterwards: in errors and facts stands where its files are from."""
    try:
        # A file alone is judged as one: its configurations may come from elsewhere.
        facts = inspect_model(folder / plan.downloads[0].expected.path if len(plan.downloads) == 1 else folder)
    except ModelUnusable as error:
        raise _of_source(error, plan) from None
    return replace(facts, folder=Path(plan.source.location))


def _of_source(error: ModelUnusable, plan: DownloadPlan) -> ModelUnusable:
    """The same error where the files are from: the copy is gone."""
    return ModelUnusable(plan.source.location, error.part, error.reason, error.right)


def _described(entry: CatalogEntry, plan: DownloadPlan, files: tuple[ModelFile, ...], folder: Path) -> ModelDescriptor:
    """Check the whole folder; its descriptor."""
    refuse_foreign_files(folder)
    source = plan.source.model_copy(update={"files": files})
    return checked_descriptor(entry, source, folder, survey(folder))


def write_descriptor(folder: Path, descriptor: ModelDescriptor) -> None:
    """Write the folder's dreamforge.json."""
    write_atomically(folder / DESCRIPTOR_NAME, descriptor.model_dump_json(indent=2) + "\n")


async def survey_with_bar(folder: Path, *, quiet: bool) -> Survey:
    """Read every file of a model's folder, with a progress bar.

    Errors: PickleRefused, ModelFileRefused, FileNotFoundError.
    """
    await asyncio.to_thread(refuse_foreign_files, folder)
    bars = DownloadBars.shown(quiet=quiet)
    with bars.progress:
        row = bars.progress.add_task(f"reading {folder.name}", total=None)
        return await asyncio.to_thread(survey, folder, lambda count: bars.progress.advance(row, count))
