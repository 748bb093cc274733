"""Adds, downloads, verifies and removes models: files on this machine, and the registry in the log."""

import platform
from pathlib import Path
from typing import Any

from dreamforge.cli.console import out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.models.install import download_model, survey_with_bar, write_descriptor
from dreamforge.cli.models.library import (
    DescriptorNotFound,
    ModelLibrary,
    checked_descriptor,
    entry_of,
    read_descriptor,
    read_entry,
)
from dreamforge.cli.models.registry import ModelRegistryClient, registry_client
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.model_registry import ModelState, RegisterModel, RemoveModel, VerifyModel
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.models.descriptor_file import CatalogEntry, check_family
from dreamforge.runtime import clock
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, Fault, ModelFilesWrong, Survey, faults_of

Result = dict[str, Any]  # Any: JSON, as --json prints it


async def show(settings: CliSettings, model_id: str) -> Result:
    """What the registry, a descriptor file and the models folder have of a model. Errors: UnknownModel."""
    library = ModelLibrary(settings.models_dir)
    entry = library.find_entry(model_id)
    async with registry_client(settings) as registry:
        state = await registry.state(model_id)
        described = state.descriptor or (entry[0] if entry else None)
        if described is None:
            raise await registry.unknown_model(model_id, library.known_ids())
    folder = library.folder_of(model_id)
    return {
        "model": described.model_dump(mode="json"),
        "status": _status(state),
        "verified_at": state.verified_at.isoformat() if state.verified and state.verified_at else None,
        "folder": str(folder) if folder.is_dir() else None,
    }


def _status(state: ModelState) -> str:
    if state.descriptor is None:
        return "not registered"
    return "removed" if state.removed else "verified" if state.verified else "registered"


async def add_file(settings: CliSettings, path: Path, *, quiet: bool) -> Result:
    """Register the model of a descriptor file if its files are here, else keep the file for a download.

    Errors: DescriptorNotFound, DescriptorInvalid, UnknownFamily, ModelFilesWrong, PickleRefused, CommandError.
    """
    entry = read_entry(path)
    library = ModelLibrary(settings.models_dir)
    folder = library.folder_of(entry.model_id)
    if not folder.is_dir() and entry.source.kind == "folder":
        folder = path.parent / entry.source.location
    if folder.is_dir():
        return await _add_with_files(settings, entry, folder, quiet=quiet)
    library.add_entry(entry, path.parent)
    pinned = "pinned" if entry.pinned else "not pinned: the download pins what it finds, and registers that list"
    message = f"the descriptor of {entry.model_id} is added; its files are {pinned}"
    return _result(entry, message, f"dreamforge models download {entry.model_id}")


async def _add_with_files(settings: CliSettings, entry: CatalogEntry, folder: Path, *, quiet: bool) -> Result:
    found = await survey_with_bar(folder, quiet=quiet)
    descriptor = checked_descriptor(entry, entry.source, folder, found)
    if ModelLibrary(settings.models_dir).contains(folder):  # no runner reads it elsewhere
        write_descriptor(folder, descriptor)
    return await _register(settings, descriptor, folder)


async def add_folder(settings: CliSettings, folder: Path, *, quiet: bool) -> Result:
    """Register the model of a folder. Errors: DescriptorNotFound, DescriptorInvalid, UnknownFamily, ModelFilesWrong."""
    path = folder / DESCRIPTOR_NAME
    if not path.is_file():
        raise DescriptorNotFound(
            f"{folder} has no {DESCRIPTOR_NAME}: write a descriptor file with"
            f" `source: {{kind: folder, location: {folder}}}` and add that"
        )
    descriptor = read_descriptor(path)
    check_family(descriptor.family, str(path))
    _refuse_other_files(descriptor, folder, await survey_with_bar(folder, quiet=quiet))
    return await _register(settings, descriptor, folder)


def _refuse_other_files(descriptor: ModelDescriptor, folder: Path, found: Survey) -> None:
    pinned = descriptor.source.files if descriptor.source else ()
    faults = faults_of(pinned, found.files) if pinned else ()
    if not faults and found.digest != descriptor.digest:
        faults = (Fault("all files", f"have digest {found.digest}, but must have {descriptor.digest}"),)
    if faults:
        raise ModelFilesWrong(str(folder), faults)


async def _register(settings: CliSettings, descriptor: ModelDescriptor, folder: Path) -> Result:
    model_id = descriptor.model_id
    command = RegisterModel(clock.now(), descriptor, by_hand=True)
    try:
        async with registry_client(settings) as registry:
            events = await registry.execute(model_id, command)
    except DependencyAway as error:
        hint = f"start the stack, then `dreamforge models add {folder}`; a runner with these files registers it too"
        message = f"the files of {model_id} are right, but the registry is unavailable: {error}"
        raise CommandError(message, Exit.UNAVAILABLE, {"folder": str(folder)}, hint) from error
    message = f"{model_id} is registered" if events else f"{model_id} was already registered"
    if ModelLibrary(settings.models_dir).contains(folder):
        return _result(descriptor, message)
    hint = f"no runner reads this folder: use `dreamforge models download {model_id} --from {folder}`"
    return _result(descriptor, message, hint)


async def download(settings: CliSettings, model_id: str, mirror: str, *, quiet: bool) -> Result:
    """Download a model and register it. Errors: UnknownModel, CommandError, and those of `download_model`."""
    entry, base_folder = ModelLibrary(settings.models_dir).find_entry(model_id) or await _registered(settings, model_id)
    if not quiet:
        out.print(f"{model_id}: licence {entry.licence} {entry.licence_url}".rstrip())
    descriptor, folder = await download_model(settings, entry, mirror=mirror, base_folder=base_folder, quiet=quiet)
    return await _register(settings, descriptor, folder)


async def _registered(settings: CliSettings, model_id: str) -> tuple[CatalogEntry, Path]:
    async with registry_client(settings) as registry:
        descriptor = (await registry.state(model_id)).descriptor
        if descriptor is None:
            raise await registry.unknown_model(model_id, ModelLibrary(settings.models_dir).known_ids())
    if (entry := entry_of(descriptor)) is None:
        hint = "write a descriptor file with a source, then `dreamforge models add FILE`"
        raise CommandError(f"the descriptor of {model_id} has no source", Exit.REFUSED, hint=hint)
    return entry, Path()


async def verify(settings: CliSettings, model_id: str, *, quiet: bool) -> Result:
    """Compare every file with the registry and record it. Errors: UnknownModel, ModelNotDownloaded, ModelFilesWrong."""
    async with registry_client(settings) as registry:
        descriptor = await _available(registry, model_id)
        folder = ModelLibrary(settings.models_dir).existing_folder_of(model_id)
        found = await survey_with_bar(folder, quiet=quiet)
        _refuse_other_files(descriptor, folder, found)
        command = VerifyModel(clock.now(), found.digest, found.size_bytes, verified_by=platform.node())
        await registry.execute(model_id, command)
    return _result(descriptor, f"{model_id} is verified: {len(found.files)} files, {found.size_bytes} bytes")


async def remove(settings: CliSettings, model_id: str, *, keep_files: bool) -> Result:
    """Remove a model from the registry, and its files unless `keep_files`. Errors: UnknownModel, OSError."""
    async with registry_client(settings) as registry:
        descriptor = await _available(registry, model_id)
        await registry.execute(model_id, RemoveModel(clock.now(), removed_by=platform.node()))
    library = ModelLibrary(settings.models_dir)
    deleted = None if keep_files else library.delete_folder(model_id)
    library.remove_entry(model_id)
    files = f"{deleted} is deleted" if deleted else "no file was deleted"
    return _result(descriptor, f"{model_id} is removed from the registry; {files}")


async def _available(registry: ModelRegistryClient, model_id: str) -> ModelDescriptor:
    state = await registry.state(model_id)
    if state.descriptor is None or state.removed:
        raise await registry.unknown_model(model_id)
    return state.descriptor


def _result(model: ModelDescriptor | CatalogEntry, message: str, hint: str = "") -> Result:
    return {"model": model.model_dump(mode="json"), "licence": model.licence, "said": message, "next": hint}
