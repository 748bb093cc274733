"""From the source of a model to its files: on a hub, a mirror, a URL or this machine."""

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from dreamforge.cli.models.components import (
    completed_index,
    component_files,
    pinned_component_files,
    without_components,
)
from dreamforge.cli.models.download import FileDownload
from dreamforge.cli.models.errors import FileListMissing
from dreamforge.cli.models.hub import HubRepository, ModelHub, fetch_json
from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.cli.models.repository_files import INDEX, SAFETENSORS, configuration_files, pipeline_files
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelSource
from dreamforge.contracts.models.descriptor_file import CatalogEntry, problems_of
from dreamforge.contracts.models.model_files import PickleRefused, is_pickle, refuse_files
from dreamforge.contracts.models.source import ModelComponent
from dreamforge.runtime.storage.model_facts import read_json
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, files_of
from dreamforge.runtime.storage.model_inspection import inspect_model


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """The files to download, the source that the registry records, and the licence that its page names."""

    downloads: tuple[FileDownload, ...]
    source: ModelSource
    licence: str = ""

    def __post_init__(self) -> None:
        """Nothing of a plan is written before every path in it was checked. Errors: PickleRefused, ModelFileRefused."""
        refuse_files(each.expected.path for each in self.downloads)

    def hashes(self) -> dict[str, str | None]:
        """The sha256 of each file by its path, None where only a download would tell. Reads files of this machine."""
        return {each.expected.path: _sha256_of(each) for each in self.downloads}


def _sha256_of(download: FileDownload) -> str | None:
    if isinstance(download.location, bytes):
        return hashlib.sha256(download.location).hexdigest()
    if isinstance(download.location, str):
        return download.expected.sha256
    with download.location.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class SourceResolver:
    """Finds the files of a model."""

    client: httpx.AsyncClient
    hub: ModelHub

    async def plan(self, entry: CatalogEntry, *, mirror: str = "", base_folder: Path = Path()) -> DownloadPlan:
        """Every file with its location. A relative folder is relative to `base_folder`.

        Errors: FileListMissing, DownloadFailed, PickleRefused, ModelFileRefused, AddressRefused.
        """
        if mirror:
            return await self._from_mirror(entry, mirror)
        if entry.source.components:
            return await self._with_components(entry, base_folder)
        match entry.source.kind:
            case "folder":
                return _from_folder(entry, base_folder / entry.source.location)
            case "single_file":
                return await self._from_single_file(entry)
            case "hub":
                return await self._from_hub(entry)

    async def _with_components(self, entry: CatalogEntry, base_folder: Path) -> DownloadPlan:
        """What the model's own repository or folder has, and beside it the parts that come from elsewhere."""
        components = entry.source.components
        replaced = frozenset(each.name for each in components)
        own = entry.model_copy(update={"source": without_components(entry.source)})
        if entry.source.kind == "folder":
            plan = _from_folder(own, base_folder / entry.source.location, replaced)
        else:
            plan = await self._from_hub(own, replaced)
        index = next((each for each in plan.downloads if each.expected.path == INDEX), None)
        if index is None:
            raise FileListMissing(entry.model_id, entry.source.location, f"it has no {INDEX}, so it is not a pipeline")
        content = completed_index(await self._read_json(index), components)
        pinned = next((each for each in _pinned_files(own.source) if each.path == INDEX), None)
        whole = FileDownload(pinned or ExpectedFile(INDEX, len(content)), content)
        found = [await self._component(each, entry, base_folder) for each in components]
        downloads = (*(each for each in plan.downloads if each is not index), whole)
        located = {"components": tuple(each for each, _ in found), "files": entry.source.files}
        return DownloadPlan(
            tuple(sorted((*downloads, *(file for _, files in found for file in files)), key=_path_of)),
            plan.source.model_copy(update=located),
            plan.licence,
        )

    async def _component(
        self, component: ModelComponent, entry: CatalogEntry, base_folder: Path
    ) -> tuple[ModelComponent, tuple[FileDownload, ...]]:
        """A part that comes from elsewhere, at a commit or an absolute place, and its files."""
        pinned = pinned_component_files(component, entry.source.files)
        folder = base_folder / component.location
        if await asyncio.to_thread(folder.is_dir):
            files = pinned or component_files(component, _files_in(folder), entry.variant)
            placed = component.model_copy(update={"location": str(folder.absolute())})
            downloads = tuple(FileDownload(each.expected, folder / each.source_path) for each in files)
        else:
            if pinned and component.revision:
                repository = HubRepository(component.location, self.hub.url, component.revision)
            else:
                repository = await self.hub.repository(component.location, component.revision)
            files = pinned or component_files(component, repository.listed, entry.variant)
            placed = component.model_copy(update={"revision": repository.revision})
            downloads = tuple(FileDownload(each.expected, repository.url_of(each.source_path)) for each in files)
        if not files:
            where = "/".join(filter(None, (component.location, component.subfolder)))
            raise FileListMissing(entry.model_id, where, f"it has no file that {component.class_name} reads")
        return placed, downloads

    async def _read_json(self, download: FileDownload) -> dict[str, Any]:  # Any: an open JSON object
        if isinstance(download.location, Path):
            return await asyncio.to_thread(read_json, download.location, download.expected.path)
        return await self._json(str(download.location), download.expected.path)

    async def _from_mirror(self, entry: CatalogEntry, mirror: str) -> DownloadPlan:
        if "://" not in mirror:
            return _from_folder(entry, Path(mirror))
        base = mirror.rstrip("/")
        source = entry.source if entry.pinned else await self._published(entry, base)
        return DownloadPlan(
            tuple(FileDownload(each, f"{base}/{quote(each.path)}") for each in _pinned_files(source)), source
        )

    async def _published(self, entry: CatalogEntry, base: str) -> ModelSource:
        """The pinned list in the dreamforge.json of a mirror."""
        found = await self._json(f"{base}/{DESCRIPTOR_NAME}", DESCRIPTOR_NAME)
        try:
            source = ModelDescriptor.model_validate(found).source
        except ValidationError as error:
            problems = "; ".join(f"{field}: {problem}" for field, problem in problems_of(error))
            raise FileListMissing(entry.model_id, base, f"its {DESCRIPTOR_NAME} is invalid: {problems}") from None
        if source is None or not source.files:
            reason = f"its {DESCRIPTOR_NAME} lists no files; use that of a downloaded model"
            raise FileListMissing(entry.model_id, base, reason)
        return source

    async def _from_hub(self, entry: CatalogEntry, replaced: frozenset[str] = frozenset()) -> DownloadPlan:
        """`replaced`: parts that come from elsewhere."""
        repository = await self._repository(entry.source.location, entry)
        source = entry.source.model_copy(update={"revision": repository.revision})
        files = _pinned_files(source)
        if not entry.pinned:
            parts = await self._parts(repository)
            files = pipeline_files(repository.listed, parts and parts - replaced, entry.variant)
        if not files:
            raise FileListMissing(entry.model_id, source.location, "it has no file that a pipeline reads")
        return DownloadPlan(tuple(map(repository.download, files)), source, repository.licence)

    async def _from_single_file(self, entry: CatalogEntry) -> DownloadPlan:
        """One file of weights, and for a pipeline the configurations of a repository or of a folder."""
        source = entry.source
        location: str | Path = source.location if "://" in source.location else Path(source.location)
        weights = _weights_of(entry)
        if not source.configuration:
            return DownloadPlan((FileDownload(weights, location),), source)
        if (beside := await asyncio.to_thread(_configurations_in, Path(source.configuration))) is not None:
            return DownloadPlan((FileDownload(weights, location), *beside), source)
        repository = await self._repository(source.configuration, entry)
        source = source.model_copy(update={"revision": repository.revision})
        others = [each for each in _pinned_files(source) if each != weights]
        if not others:
            others = list(configuration_files(repository.listed, await self._parts(repository) or frozenset()))
        if not any(each.path == INDEX for each in others):
            raise FileListMissing(entry.model_id, source.configuration, f"it has no {INDEX}, so it is not a pipeline")
        return DownloadPlan((FileDownload(weights, location), *map(repository.download, others)), source)

    async def _repository(self, name: str, entry: CatalogEntry) -> HubRepository:
        """A repository at a commit; the hub is not asked if every file is pinned."""
        if entry.pinned and entry.source.revision:
            return HubRepository(name, self.hub.url, entry.source.revision)
        return await self.hub.repository(name, entry.source.revision)

    async def _parts(self, repository: HubRepository) -> frozenset[str] | None:
        """The folders of the pipeline, because a repository often has others too; None if it is not a pipeline."""
        if not any(each.path == INDEX for each in repository.listed):
            return None
        index = await self._json(repository.url_of(INDEX), INDEX)
        return _part_names(index)

    async def _json(self, url: str, what: str) -> dict[str, Any]:  # Any: an open JSON object
        return await fetch_json(self.client, url, what, url.partition("?")[0])


def _part_names(index: dict[str, Any]) -> frozenset[str]:  # Any: an open JSON object
    """The folders of the parts that a model_index.json lists."""
    return frozenset(name for name, value in index.items() if isinstance(value, list) and value and value[0])


def _pinned_files(source: ModelSource) -> tuple[ExpectedFile, ...]:
    return tuple(ExpectedFile(file.path, file.size_bytes, file.sha256) for file in source.files)


def _path_of(download: FileDownload) -> str:
    return download.expected.path


def _from_folder(entry: CatalogEntry, folder: Path, replaced: frozenset[str] = frozenset()) -> DownloadPlan:
    """The pinned files, else those of the folder that loading reads. `replaced`: parts that come from elsewhere.

    Errors: FileListMissing, ModelUnusable, PickleRefused.
    """
    if not folder.is_dir():
        raise FileListMissing(entry.model_id, str(folder), "the folder does not exist")
    source = entry.source
    if entry.pinned:
        files = _pinned_files(source)
    elif replaced:
        parts = _part_names(read_json(folder / INDEX, INDEX)) - replaced
        files = pipeline_files(_files_in(folder), parts, entry.variant)
    else:
        facts = inspect_model(folder)
        folder = facts.folder
        files = tuple(ExpectedFile(name, (folder / name).stat().st_size) for name in facts.files)
    if not files:
        raise FileListMissing(entry.model_id, str(folder), "it has no file")
    return DownloadPlan(tuple(FileDownload(each, folder / each.path) for each in files), source)


def _configurations_in(folder: Path) -> tuple[FileDownload, ...] | None:
    """The configurations of a pipeline's folder; None if there is no such folder. Errors: ModelUnusable, OSError."""
    if not folder.is_dir():
        return None
    index = read_json(folder / INDEX, INDEX)
    files = configuration_files(_files_in(folder), _part_names(index))
    return tuple(FileDownload(each, folder / each.path) for each in files)


def _weights_of(entry: CatalogEntry) -> ExpectedFile:
    """The single file of weights: as pinned, else named as in the URL, else named by the model's id."""
    location = entry.source.location
    name = PurePosixPath(httpx.URL(location).path if "://" in location else location).name
    if is_pickle(name):
        raise PickleRefused(name)
    pinned = (each for each in _pinned_files(entry.source) if each.path.endswith(SAFETENSORS))
    return next(pinned, ExpectedFile(name if name.endswith(SAFETENSORS) else entry.model_id + SAFETENSORS))


def _files_in(folder: Path) -> Iterable[ExpectedFile]:
    return (ExpectedFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files_of(folder))
