"""`models add`: from a descriptor file, a folder, a file of weights, a repository or a URL to a registered model."""

import asyncio
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote, urlsplit

from dreamforge.cli.models.description import (
    AddOptions,
    describe,
    id_of,
    name_of,
    name_of_url,
    overridden,
    summary,
)
from dreamforge.cli.models.download import FileDownload
from dreamforge.cli.models.errors import FolderTaken
from dreamforge.cli.models.hub import REPOSITORY
from dreamforge.cli.models.install import Installer, client_of, survey_with_bar, write_descriptor
from dreamforge.cli.models.library import (
    DescriptorNotFound,
    ModelLibrary,
    checked_descriptor,
    entry_of,
    fitted_as_described,
    read_descriptor,
    read_entry,
)
from dreamforge.cli.models.registration import Result, refuse_other_files_of_id, register, result
from dreamforge.cli.models.sources import DownloadPlan
from dreamforge.cli.models.verification import refuse_other_files
from dreamforge.cli.models.weight_check import check_weights
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelSource
from dreamforge.contracts.models.descriptor_file import CatalogEntry, check_family
from dreamforge.contracts.models.model_files import PickleRefused, is_pickle
from dreamforge.runtime.storage.model_facts import ModelFacts
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME
from dreamforge.runtime.storage.model_inspection import inspect_model, lone_file, refuse_other_formats, snapshot_of
from dreamforge.runtime.storage.pipeline_class import INDEX_NAME

#: What looks like `owner/name`, but was meant as a file that is not there.
FILE_SUFFIXES = (".safetensors", ".yaml", ".yml", ".json")
#: After a repository's name in the URL of one of its files, or of a revision.
HUB_PAGES = ("blob", "resolve", "tree")


async def add(settings: CliSettings, given: str, options: AddOptions, *, quiet: bool) -> Result:
    """Add what a person names: a descriptor file, a folder, a file of weights, a repository `owner/name`, or a URL.

    Errors: DescriptorNotFound, DescriptorInvalid, UnknownFamily, ModelUnusable, ModelFilesWrong, PickleRefused,
    FolderTaken, RegisteredWithOtherFiles, DownloadFailed, DiskFull, CommandError.
    """
    match await asyncio.to_thread(_kind_of, given):
        case "url":
            return await _add_source(settings, _source_of_url(settings, given), options, named=given, quiet=quiet)
        case "repository":
            return await _add_source(settings, ModelSource(kind="hub", location=given), options, quiet=quiet)
        case "folder":
            return await add_folder(settings, Path(given), options, quiet=quiet)
        case "weights":
            path = Path(given)
            return await _add_weights(settings, path, name_of(path), options, quiet=quiet)
        case _:
            return await add_file(settings, Path(given), options, quiet=quiet)


def _kind_of(given: str) -> str:
    """What a person named. Errors: DescriptorNotFound, PickleRefused, ModelUnusable, OSError."""
    path = Path(given)
    if "://" in given:
        return "url"
    if path.is_dir():
        return "folder"
    if path.is_file():
        if is_pickle(path.name):
            raise PickleRefused(path.name)
        refuse_other_formats(path)
        return "weights" if _is_safetensors(path) else "descriptor"
    if REPOSITORY.fullmatch(given) and not given.startswith(".") and path.suffix not in FILE_SUFFIXES:
        return "repository"
    raise DescriptorNotFound(f"{given} is neither a file, a folder, a repository as owner/name, nor a URL")


async def add_file(settings: CliSettings, path: Path, options: AddOptions = AddOptions(), *, quiet: bool) -> Result:
    """Register the model of a descriptor file if its files are here, else keep the file for a download.

    Errors: those of `add`.
    """
    entry = read_entry(path)
    library = ModelLibrary(settings.models_dir)
    if (folder := _folder_of_entry(library, entry, path.parent)) is not None:
        if library.contains(folder):
            return await _add_in_place(settings, entry, folder, options, quiet=quiet)
        return await _install(settings, entry, options, quiet=quiet, base_folder=path.parent)
    library.add_entry(entry, path.parent)
    pinned = "pinned" if entry.pinned else "not pinned: the download pins what it finds, and registers that list"
    message = f"the descriptor of {entry.model_id} is added; its files are {pinned}"
    return result(entry, message, f"dreamforge models download {entry.model_id}")


async def add_folder(settings: CliSettings, folder: Path, options: AddOptions = AddOptions(), *, quiet: bool) -> Result:
    """Register the model of a folder: as its dreamforge.json describes it, else as its files say. Errors: as `add`."""
    library, path = ModelLibrary(settings.models_dir), folder / DESCRIPTOR_NAME
    if path.is_file():
        descriptor = overridden(read_descriptor(path), options)
        check_family(descriptor.family, str(path))
        return await _add_described(settings, folder, descriptor, options, quiet=quiet)
    folder = snapshot_of(folder)
    if (file := lone_file(folder)) is not None and not library.contains(folder):
        return await _add_weights(settings, file, name_of(folder), options, quiet=quiet)
    facts = await asyncio.to_thread(inspect_model, folder)
    source = _source_of_path("folder", folder)
    entry = describe(facts, name_of(folder), options, source)
    if library.contains(folder):
        return await _add_in_place(settings, entry, folder, options, quiet=quiet)
    return await _install(settings, entry, options, quiet=quiet)


async def _add_described(
    settings: CliSettings, folder: Path, descriptor: ModelDescriptor, options: AddOptions, *, quiet: bool
) -> Result:
    """A folder that says itself which model it is."""
    library = ModelLibrary(settings.models_dir)
    if library.contains(folder):
        library.refuse_other_owner(folder, descriptor.model_id)
    found = await survey_with_bar(folder, quiet=quiet)
    refuse_other_files(descriptor, folder, found)
    descriptor = fitted_as_described(descriptor, await asyncio.to_thread(inspect_model, folder))
    if not options.replace:
        await refuse_other_files_of_id(settings, descriptor)
    if library.contains(folder):
        await asyncio.to_thread(check_weights, settings, folder, descriptor.kind)
        if descriptor != read_descriptor(folder / DESCRIPTOR_NAME):
            write_descriptor(folder, descriptor)  # a runner registers what is written there
        return await register(settings, descriptor, folder)
    source = descriptor.source or _source_of_path("folder", folder)
    described = descriptor.model_copy(update={"source": source.model_copy(update={"files": found.files})})
    entry = entry_of(described)
    assert entry is not None
    return await _install(settings, entry, options, quiet=quiet, mirror=str(folder))


async def _add_weights(settings: CliSettings, path: Path, name: str, options: AddOptions, *, quiet: bool) -> Result:
    """A file of weights: a LoRA, or a checkpoint whose configurations come from a repository or folder."""
    facts = await asyncio.to_thread(inspect_model, path)
    source = _source_of_path("single_file", path, _configuration(facts, options))
    return await _install(settings, describe(facts, name, options, source), options, quiet=quiet)


async def _add_source(
    settings: CliSettings, source: ModelSource, options: AddOptions, *, named: str = "", quiet: bool
) -> Result:
    """A repository, or a file at a URL: what it is is read before its weights are downloaded."""
    name = name_of_url(unquote(urlsplit(source.location).path))
    model_id = options.model_id or id_of(name)
    # Which files there are depends on neither the family nor the presets.
    sketch = CatalogEntry(model_id=model_id, family="diffusers", licence="?", source=source, variant=options.variant)
    async with client_of(settings, named) as client:
        installer = Installer(settings, client, quiet=quiet)
        plan = await installer.plan(sketch)
        if source.kind == "hub" and (file := _lone_download(plan)) is not None:
            source = ModelSource(kind="single_file", location=str(file.location))
            plan = DownloadPlan((file,), source, plan.licence)
        facts = await installer.facts_of(plan)
    if source.kind == "single_file":
        source = source.model_copy(update={"configuration": _configuration(facts, options)})
    said = replace(options, licence=options.licence or plan.licence)
    entry = describe(facts, name, said, source).model_copy(update={"variant": options.variant})
    return await _install(settings, entry, options, named=named, quiet=quiet)


async def _add_in_place(
    settings: CliSettings, entry: CatalogEntry, folder: Path, options: AddOptions, *, quiet: bool
) -> Result:
    """A folder of the models folder that has no dreamforge.json yet, or its own."""
    library = ModelLibrary(settings.models_dir)
    library.refuse_other_owner(folder, entry.model_id)
    found = await survey_with_bar(folder, quiet=quiet)
    descriptor = await asyncio.to_thread(checked_descriptor, entry, entry.source, folder, found)
    await asyncio.to_thread(check_weights, settings, folder, descriptor.kind)
    if not options.replace:
        await refuse_other_files_of_id(settings, descriptor)
    write_descriptor(folder, descriptor)
    return await register(settings, descriptor, folder, _summary(descriptor, folder))


async def _install(
    settings: CliSettings,
    entry: CatalogEntry,
    options: AddOptions,
    *,
    quiet: bool,
    base_folder: Path = Path(),
    mirror: str = "",
    named: str = "",
) -> Result:
    """Bring the files into the models folder, and register the model."""
    library = ModelLibrary(settings.models_dir)

    async def approve(descriptor: ModelDescriptor) -> None:
        if not options.replace:
            await refuse_other_files_of_id(settings, descriptor)

    async with client_of(settings, named) as client:
        installer = Installer(settings, client, quiet=quiet, link=options.link)
        plan = await installer.plan(entry, base_folder=base_folder, mirror=mirror)
        if (own := library.find_folder(entry.model_id)) is not None:
            descriptor, folder = await asyncio.to_thread(_already_here, own, plan), own
        else:
            descriptor, folder = await installer.install(entry, plan, approve)
    return await register(settings, descriptor, folder, _summary(descriptor, folder))


def _already_here(own: Path, plan: DownloadPlan) -> ModelDescriptor:
    """The descriptor of the model's own folder, if it has just these files. Errors: FolderTaken."""
    descriptor = read_descriptor(own / DESCRIPTOR_NAME)
    pinned = {file.path: file.sha256 for file in descriptor.source.files} if descriptor.source else {}
    if pinned and pinned == plan.hashes():
        return descriptor
    reason = "it has other files already; choose another id with --id, or remove that model first"
    raise FolderTaken(str(own), descriptor.model_id, reason)


def _lone_download(plan: DownloadPlan) -> FileDownload | None:
    """The only file of weights of a repository without any configuration: a LoRA, or a checkpoint."""
    names = {each.expected.path for each in plan.downloads}
    weights = [each for each in plan.downloads if each.expected.path.endswith(".safetensors")]
    return weights[0] if len(weights) == 1 and not names & {INDEX_NAME, "config.json"} else None


def _summary(descriptor: ModelDescriptor, folder: Path) -> str:
    return summary(inspect_model(folder), descriptor.family)


def _folder_of_entry(library: ModelLibrary, entry: CatalogEntry, base_folder: Path) -> Path | None:
    """Where the files of a descriptor file are: in the model's folder, in the one that it names, or nowhere here."""
    named = base_folder / entry.source.location if entry.source.kind == "folder" else None
    candidates = (library.find_folder(entry.model_id), named, library.folder / entry.model_id)
    return next((folder for folder in candidates if folder is not None and folder.is_dir()), None)


def _configuration(facts: ModelFacts, options: AddOptions) -> str:
    """Where the configurations of a checkpoint are: a folder of this machine, or a repository."""
    if facts.kind != "pipeline":
        return ""
    folder = Path(options.configuration)
    is_folder = options.configuration != "" and folder.is_dir()
    return str(folder.absolute()) if is_folder else options.configuration or facts.configuration


def _source_of_path(kind: Literal["folder", "single_file"], path: Path, configuration: str = "") -> ModelSource:
    return ModelSource(kind=kind, location=str(path.absolute()), configuration=configuration)


def _source_of_url(settings: CliSettings, url: str) -> ModelSource:
    """The page of a repository on the hub, of one of its files, or any other file."""
    hub = settings.hub_url.rstrip("/") + "/"
    parts = url.removeprefix(hub).partition("?")[0].strip("/").split("/") if url.startswith(hub) else []
    is_file = PurePosixPath(parts[-1]).suffix in FILE_SUFFIXES if parts else True
    if (len(parts) == 2 and not is_file) or (len(parts) == 4 and parts[2] == "tree"):
        return ModelSource(kind="hub", location="/".join(parts[:2]), revision=parts[3] if len(parts) > 2 else "")
    if len(parts) > 4 and parts[2] in HUB_PAGES:
        url = hub + "/".join((*parts[:2], "resolve", *parts[3:]))
    return ModelSource(kind="single_file", location=url)


def _is_safetensors(path: Path) -> bool:
    """By name, or by content: the length of a header, and the header's first brace."""
    with path.open("rb") as file:
        return path.suffix.lower() == ".safetensors" or file.read(9)[8:] == b"{"
