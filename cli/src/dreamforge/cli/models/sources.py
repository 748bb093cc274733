"""Where a model's files are: on a hub, a mirror, an URL or this machine; and which ones they are, when nobody said."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from dreamforge.cli.models.download import FileDownload
from dreamforge.cli.models.errors import DownloadFailed, FileListMissing
from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelSource
from dreamforge.contracts.models.descriptor_file import CatalogEntry, PickleRefused, is_pickle, refuse_pickle
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, files_of

INDEX = "model_index.json"
#: What a pipeline needs besides its weights: configurations, vocabularies, SentencePiece models.
BESIDES = frozenset({".json", ".txt", ".model"})
SAFETENSORS = ".safetensors"
#: diffusers' and transformers' own names: NAME(.VARIANT)(-00001-of-00002)(.VARIANT).safetensors
WEIGHTS = re.compile(
    r"(?:model|diffusion_pytorch_model)(?:\.(?P<before>\w+))?(?:-\d+-of-\d+)?(?:\.(?P<after>\w+))?\.safetensors"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to fetch, and what the registry will be told of where it came from."""

    orders: tuple[FileDownload, ...]
    source: ModelSource


@dataclass(frozen=True, slots=True)
class Repository:
    """A hub's repository at one commit: its files, and of a pipeline the folders that it is made of."""

    base: str
    revision: str
    listed: tuple[ExpectedFile, ...] = ()
    parts: frozenset[str] | None = None

    def order(self, wanted: ExpectedFile) -> FileDownload:
        """One of its files."""
        return FileDownload(wanted, f"{self.base}/{quote(wanted.path)}")


@dataclass(frozen=True, slots=True)
class SourceResolver:
    """Finds the files of a model. `hub_url` is a server with the Hugging Face Hub's interface."""

    client: httpx.AsyncClient
    hub_url: str

    async def plan(self, entry: CatalogEntry, *, mirror: str = "", beside: Path = Path()) -> Plan:
        """Every file with its place. `beside`: what a relative folder is relative to.

        Errors: FileListMissing, DownloadFailed, PickleRefused.
        """
        if mirror:
            return await self._mirror(entry, mirror)
        match entry.source.kind:
            case "folder":
                return _folder(entry, beside / entry.source.location)
            case "single_file":
                return await self._single(entry)
            case "hub":
                return await self._hub(entry)

    async def _mirror(self, entry: CatalogEntry, mirror: str) -> Plan:
        if "://" not in mirror:
            return _folder(entry, Path(mirror))
        base = mirror.rstrip("/")
        source = entry.source if entry.pinned else await self._published(entry, base)
        return Plan(tuple(FileDownload(each, f"{base}/{quote(each.path)}") for each in _wanted(source)), source)

    async def _published(self, entry: CatalogEntry, base: str) -> ModelSource:
        """The pinned list that a mirror publishes as its dreamforge.json."""
        found = await self._json(f"{base}/{DESCRIPTOR_NAME}", DESCRIPTOR_NAME)
        try:
            source = ModelDescriptor.model_validate(found).source
        except ValidationError as error:
            raise FileListMissing(entry.model_id, base, f"its {DESCRIPTOR_NAME} is none: {error}") from None
        if source is None or not source.files:
            reason = f"its {DESCRIPTOR_NAME} lists no files; take that of a model that was downloaded before"
            raise FileListMissing(entry.model_id, base, reason)
        return source

    async def _hub(self, entry: CatalogEntry) -> Plan:
        repository = await self._repository(entry.source.location, entry.source.revision, pinned=entry.pinned)
        source = entry.source.model_copy(update={"revision": repository.revision})
        wanted = _wanted(source) if entry.pinned else chosen(repository.listed, repository.parts, entry.variant)
        if not wanted:
            raise FileListMissing(entry.model_id, source.location, "it holds no file that a pipeline could use")
        return Plan(tuple(repository.order(each) for each in wanted), source)

    async def _single(self, entry: CatalogEntry) -> Plan:
        """One file of weights, and for a pipeline the small files around it from a repository."""
        url, source = entry.source.location, entry.source
        weights = _weights_of(entry)
        if not source.configuration:
            return Plan((FileDownload(weights, url),), source)
        repository = await self._repository(source.configuration, source.revision, pinned=entry.pinned)
        source = source.model_copy(update={"revision": repository.revision})
        around = [each for each in _wanted(source) if each != weights]
        around = around or list(configurations(repository.listed, repository.parts or frozenset()))
        if not any(each.path == INDEX for each in around):
            raise FileListMissing(entry.model_id, source.configuration, f"it has no {INDEX}, so it is no pipeline's")
        return Plan((FileDownload(weights, url), *(repository.order(each) for each in around)), source)

    async def _repository(self, name: str, revision: str, *, pinned: bool) -> "Repository":
        """What a repository holds at a commit; one that is known to the last file is not asked."""
        base = f"{self.hub_url}/{quote(name)}/resolve"
        if pinned and revision:
            return Repository(f"{base}/{revision}", revision)
        api = f"{self.hub_url}/api/models/{quote(name)}/revision/{quote(revision or 'main', safe='')}?blobs=true"
        found = await self._json(api, name)
        base, listed = f"{base}/{found['sha']}", tuple(_listed(each) for each in found["siblings"])
        is_pipeline = not pinned and any(each.path == INDEX for each in listed)
        return Repository(base, str(found["sha"]), listed, await self._parts(base) if is_pipeline else None)

    async def _parts(self, base: str) -> frozenset[str]:
        """The folders that the pipeline is made of; a repository often holds others besides."""
        index = await self._json(f"{base}/{INDEX}", INDEX)
        return frozenset(name for name, value in index.items() if isinstance(value, list) and value[0])

    async def _json(self, url: str, what: str) -> dict[str, Any]:  # Any: an open JSON object
        shown = url.partition("?")[0]
        try:
            response = await self.client.get(url, follow_redirects=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DownloadFailed(what, shown, str(error) or type(error).__name__) from error
        if response.status_code != httpx.codes.OK:
            reason = f"the server answered {response.status_code}"
            if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
                reason += "; accept its licence there, and put a token into FORGE_HUB_TOKEN"
            raise DownloadFailed(what, shown, reason)
        try:
            found = response.json()
        except json.JSONDecodeError as error:
            raise DownloadFailed(what, shown, f"what came is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise DownloadFailed(what, shown, "what came is not a JSON object")
        return found


def chosen(listed: Iterable[ExpectedFile], parts: frozenset[str] | None, variant: str = "") -> tuple[ExpectedFile, ...]:
    """The files of a repository that its pipeline reads. Pure.

    `parts`: its folders; None for what is no pipeline, which lies at the top. Of each part's weights, those of
    `variant` if every part has such, else those without a name for one.
    Errors: PickleRefused for a part whose weights are there only as a pickle.
    """
    mine = [each for each in listed if _belongs(each.path, parts)]
    weights = [each for each in mine if each.path.endswith(SAFETENSORS)]
    _refuse_only_pickles(mine, weights)
    folders = {_folder_of(each) for each in weights}
    named = [each for each in weights if variant and _variant(each) == variant]
    if not variant or {_folder_of(each) for each in named} != folders:
        named = [each for each in weights if _variant(each) == ""]
    besides = [each for each in mine if _is_beside(each) and ".bin." not in each.path]
    return tuple(sorted((*named, *besides), key=lambda each: each.path))


def configurations(listed: Iterable[ExpectedFile], parts: frozenset[str]) -> tuple[ExpectedFile, ...]:
    """What a pipeline's repository holds besides weights; not the lists of a weight's shards. Pure."""
    mine = [each for each in listed if _belongs(each.path, parts) and _is_beside(each)]
    return tuple(sorted((each for each in mine if ".index." not in each.path), key=lambda each: each.path))


def _is_beside(wanted: ExpectedFile) -> bool:
    return PurePosixPath(wanted.path).suffix in BESIDES


def _belongs(path: str, parts: frozenset[str] | None) -> bool:
    folder, slash, name = path.rpartition("/")
    if name.startswith("."):
        return False
    return not slash if parts is None else path == INDEX or folder in parts


def _folder_of(wanted: ExpectedFile) -> str:
    return wanted.path.rpartition("/")[0]


def _variant(wanted: ExpectedFile) -> str | None:
    """The variant that a file's name says; "" for none; None for weights that no pipeline asks for."""
    found = WEIGHTS.fullmatch(wanted.path.rpartition("/")[2])
    if found is None:
        return None if "/" in wanted.path else ""
    return found["before"] or found["after"] or ""


def _refuse_only_pickles(mine: list[ExpectedFile], weights: list[ExpectedFile]) -> None:
    safe = {_folder_of(each) for each in weights}
    for each in mine:
        if is_pickle(each.path) and _folder_of(each) not in safe:
            raise PickleRefused(each.path)


def _listed(sibling: Mapping[str, Any]) -> ExpectedFile:  # Any: an open JSON object
    large = sibling.get("lfs") or {}
    return ExpectedFile(str(sibling["rfilename"]), sibling.get("size"), large.get("sha256"))


def _wanted(source: ModelSource) -> tuple[ExpectedFile, ...]:
    return tuple(ExpectedFile(file.path, file.size_bytes, file.sha256) for file in source.files)


def _folder(entry: CatalogEntry, folder: Path) -> Plan:
    if not folder.is_dir():
        raise FileListMissing(entry.model_id, str(folder), "there is no such folder")
    source = entry.source
    wanted = _wanted(source) if entry.pinned else tuple(_here(folder))
    for each in wanted:
        refuse_pickle(each.path)
    if not wanted:
        raise FileListMissing(entry.model_id, str(folder), "it holds no file")
    return Plan(tuple(FileDownload(each, folder / each.path) for each in wanted), source)


def _weights_of(entry: CatalogEntry) -> ExpectedFile:
    """The one file of weights: as it was pinned, else by the URL's name for it, else by the model's."""
    name = PurePosixPath(httpx.URL(entry.source.location).path).name
    refuse_pickle(name)
    pinned = (each for each in _wanted(entry.source) if each.path.endswith(SAFETENSORS))
    return next(pinned, ExpectedFile(name if name.endswith(SAFETENSORS) else entry.model_id + SAFETENSORS))


def _here(folder: Path) -> Iterable[ExpectedFile]:
    return (ExpectedFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files_of(folder))
