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

from dreamforge.cli.store.download import Order
from dreamforge.cli.store.errors import DownloadFailed, NothingListed
from dreamforge.cli.store.partial import Wanted
from dreamforge.contracts.catalog import CatalogEntry, PickleRefused, is_pickle, refuse_pickle
from dreamforge.contracts.models import ModelDescriptor, ModelSource
from dreamforge.runtime.model_folder import DESCRIPTOR_NAME, files_of

INDEX = "model_index.json"
#: What a pipeline needs besides its weights: configurations, vocabularies, SentencePiece models.
BESIDES = frozenset({".json", ".txt", ".model"})
#: diffusers' and transformers' own names: NAME(.VARIANT)(-00001-of-00002)(.VARIANT).safetensors
WEIGHTS = re.compile(
    r"(?:model|diffusion_pytorch_model)(?:\.(?P<before>\w+))?(?:-\d+-of-\d+)?(?:\.(?P<after>\w+))?\.safetensors"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to fetch, and what the registry will be told of where it came from."""

    orders: tuple[Order, ...]
    source: ModelSource


@dataclass(frozen=True, slots=True)
class Origins:
    """Finds the files of a model. `hub_url` is a server with the Hugging Face Hub's interface."""

    client: httpx.AsyncClient
    hub_url: str

    async def plan(self, entry: CatalogEntry, *, mirror: str = "", beside: Path = Path()) -> Plan:
        """Every file with its place. `beside`: what a relative folder is relative to.

        Errors: NothingListed, DownloadFailed, PickleRefused.
        """
        if mirror:
            return await self._mirror(entry, mirror)
        match entry.source.kind:
            case "folder":
                return _folder(entry, beside / entry.source.location)
            case "single_file":
                return _single(entry)
            case "hub":
                return await self._hub(entry)

    async def _mirror(self, entry: CatalogEntry, mirror: str) -> Plan:
        if "://" not in mirror:
            return _folder(entry, Path(mirror))
        base = mirror.rstrip("/")
        source = entry.source if entry.pinned else await self._published(entry, base)
        return Plan(tuple(Order(each, f"{base}/{quote(each.path)}") for each in _wanted(source)), source)

    async def _published(self, entry: CatalogEntry, base: str) -> ModelSource:
        """The pinned list that a mirror publishes as its dreamforge.json."""
        found = await self._json(f"{base}/{DESCRIPTOR_NAME}", DESCRIPTOR_NAME)
        try:
            source = ModelDescriptor.model_validate(found).source
        except ValidationError as error:
            raise NothingListed(entry.model_id, base, f"its {DESCRIPTOR_NAME} is none: {error}") from None
        if source is None or not source.files:
            reason = f"its {DESCRIPTOR_NAME} lists no files; take that of a model that was downloaded before"
            raise NothingListed(entry.model_id, base, reason)
        return source

    async def _hub(self, entry: CatalogEntry) -> Plan:
        source = entry.source
        repository = quote(source.location)
        if not (entry.pinned and source.revision):
            revision = quote(source.revision or "main", safe="")
            api = f"{self.hub_url}/api/models/{repository}/revision/{revision}?blobs=true"
            found = await self._json(api, source.location)
            source = source.model_copy(update={"revision": str(found["sha"])})
        base = f"{self.hub_url}/{repository}/resolve/{source.revision}"
        if entry.pinned:
            wanted = _wanted(source)
        else:
            listed = [_listed(each) for each in found["siblings"]]
            parts = await self._parts(base) if any(each.path == INDEX for each in listed) else None
            wanted = chosen(listed, parts, entry.variant)
        if not wanted:
            raise NothingListed(entry.model_id, source.location, "it holds no file that a pipeline could use")
        return Plan(tuple(Order(each, f"{base}/{quote(each.path)}") for each in wanted), source)

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


def chosen(listed: Iterable[Wanted], parts: frozenset[str] | None, variant: str = "") -> tuple[Wanted, ...]:
    """The files of a repository that its pipeline reads. Pure.

    `parts`: its folders; None for what is no pipeline, which lies at the top. Of each part's weights, those of
    `variant` if every part has such, else those without a name for one.
    Errors: PickleRefused for a part whose weights are there only as a pickle.
    """
    mine = [each for each in listed if _belongs(each.path, parts)]
    weights = [each for each in mine if each.path.endswith(".safetensors")]
    _refuse_only_pickles(mine, weights)
    folders = {_folder_of(each) for each in weights}
    named = [each for each in weights if variant and _variant(each) == variant]
    if not variant or {_folder_of(each) for each in named} != folders:
        named = [each for each in weights if _variant(each) == ""]
    besides = [each for each in mine if PurePosixPath(each.path).suffix in BESIDES and ".bin." not in each.path]
    return tuple(sorted((*named, *besides), key=lambda each: each.path))


def _belongs(path: str, parts: frozenset[str] | None) -> bool:
    folder, slash, name = path.rpartition("/")
    if name.startswith("."):
        return False
    return not slash if parts is None else path == INDEX or folder in parts


def _folder_of(wanted: Wanted) -> str:
    return wanted.path.rpartition("/")[0]


def _variant(wanted: Wanted) -> str | None:
    """The variant that a file's name says; "" for none; None for weights that no pipeline asks for."""
    found = WEIGHTS.fullmatch(wanted.path.rpartition("/")[2])
    if found is None:
        return None if "/" in wanted.path else ""
    return found["before"] or found["after"] or ""


def _refuse_only_pickles(mine: list[Wanted], weights: list[Wanted]) -> None:
    safe = {_folder_of(each) for each in weights}
    for each in mine:
        if is_pickle(each.path) and _folder_of(each) not in safe:
            raise PickleRefused(each.path)


def _listed(sibling: Mapping[str, Any]) -> Wanted:  # Any: an open JSON object
    large = sibling.get("lfs") or {}
    return Wanted(str(sibling["rfilename"]), sibling.get("size"), large.get("sha256"))


def _wanted(source: ModelSource) -> tuple[Wanted, ...]:
    return tuple(Wanted(file.path, file.size_bytes, file.sha256) for file in source.files)


def _folder(entry: CatalogEntry, folder: Path) -> Plan:
    if not folder.is_dir():
        raise NothingListed(entry.model_id, str(folder), "there is no such folder")
    source = entry.source
    wanted = _wanted(source) if entry.pinned else tuple(_here(folder))
    for each in wanted:
        refuse_pickle(each.path)
    if not wanted:
        raise NothingListed(entry.model_id, str(folder), "it holds no file")
    return Plan(tuple(Order(each, folder / each.path) for each in wanted), source)


def _here(folder: Path) -> Iterable[Wanted]:
    return (Wanted(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files_of(folder))


def _single(entry: CatalogEntry) -> Plan:
    url = entry.source.location
    name = PurePosixPath(httpx.URL(url).path).name
    wanted = _wanted(entry.source) or (Wanted(name),)
    refuse_pickle(wanted[0].path)
    return Plan((Order(wanted[0], url),), entry.source)
