"""Brings models from the first machine: resumed where they stopped, checked file by file and as a whole."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote

import httpx

from dreamforge.cli.console import err
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.models.download import Downloader, FileDownload
from dreamforge.cli.models.fetch import Fetcher
from dreamforge.cli.models.install import DownloadBars, write_descriptor
from dreamforge.cli.models.library import ModelLibrary, read_descriptor
from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.cli.models.verification import refuse_other_files
from dreamforge.runtime.remote.replies import MODELS, RemoteModel, RemoteModels
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, refuse_foreign_files, survey


async def models_there(client: httpx.AsyncClient) -> tuple[RemoteModel, ...]:
    """The models of the first machine. Errors: httpx.HTTPError, ValueError."""
    response = await client.get(MODELS)
    response.raise_for_status()
    return RemoteModels.model_validate_json(response.content).models


def chosen(models: Collection[RemoteModel], wanted: Collection[str]) -> tuple[RemoteModel, ...]:
    """Those of these ids, all of them without ids. Errors: CommandError for an id that the first machine has not."""
    known = {model.descriptor.model_id: model for model in models}
    if missing := sorted(set(wanted) - known.keys()):
        facts = {"it has": ", ".join(sorted(known)) or "none"}
        raise CommandError(f"the first machine has no model {', '.join(missing)}", Exit.REFUSED, facts)
    return tuple(known[model_id] for model_id in wanted) if wanted else tuple(models)


async def bring(client: httpx.AsyncClient, model: RemoteModel, models_dir: Path, *, quiet: bool) -> bool:
    """Have this model in the folder; whether anything was downloaded.

    Errors: those of `Downloader.download`; FolderTaken, ModelFilesWrong.
    """
    library, descriptor = ModelLibrary(models_dir), model.descriptor
    found = library.find_folder(descriptor.model_id)
    if found is not None and read_descriptor(found / DESCRIPTOR_NAME).digest == descriptor.digest:
        return False
    folder = library.claim(descriptor.model_id)
    err.print(f"bringing model {descriptor.model_id} ({model.size_bytes / 2**30:.1f} GiB)", markup=False)
    bars = DownloadBars.shown(quiet=quiet)
    with bars.progress:
        downloader = Downloader(Fetcher(client, bars.grown), on_start=bars.start, on_done=bars.done)
        await downloader.download(_downloads(client, model), folder)
    await asyncio.to_thread(refuse_foreign_files, folder)
    refuse_other_files(descriptor, folder, await asyncio.to_thread(survey, folder))
    write_descriptor(folder, descriptor)
    return True


def _downloads(client: httpx.AsyncClient, model: RemoteModel) -> list[FileDownload]:
    base = f"{str(client.base_url).rstrip('/')}{MODELS}/{model.descriptor.model_id}/"
    return [
        FileDownload(ExpectedFile(file.path, file.size_bytes, file.sha256), base + quote(file.path))
        for file in model.files
    ]
