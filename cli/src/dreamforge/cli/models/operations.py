"""What the commands of `dreamforge models` do: read, register, download, verify and remove models."""

import platform
from pathlib import Path

from dreamforge.cli.client.gateway import Json
from dreamforge.cli.console import out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.models.install import install, read_with_bar, write_descriptor
from dreamforge.cli.models.library import (
    DescriptorNotFound,
    ModelLibrary,
    checked,
    entry_of,
    read_descriptor,
    read_entry,
)
from dreamforge.cli.models.registry import ModelRegistryClient, registry_client
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.model_registry import ModelState, RegisterModel, RemoveModel, VerifyModel
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelFile
from dreamforge.contracts.models.descriptor_file import CatalogEntry, check_family
from dreamforge.runtime import clock
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, Fault, ModelFilesWrong, faults_of


async def show_model(settings: CliSettings, model_id: str) -> Json:
    """What the registry and the descriptor files of this machine contain about a model. Errors: UnknownModel."""
    library = ModelLibrary(settings.models_dir)
    catalog = library.entry(model_id)
    async with registry_client(settings) as registry:
        state = await registry.state(model_id)
        if state.descriptor is None and catalog is None:
            raise await registry.unknown_model(model_id, library.entry_ids())
    model: ModelDescriptor | CatalogEntry | None = state.descriptor or (catalog[0] if catalog else None)
    assert model is not None
    folder = library.folder_of(model_id)
    return {
        "model": model.model_dump(mode="json"),
        "status": _status(state),
        "verified_at": state.verified_at.isoformat() if state.verified and state.verified_at else None,
        "folder": str(folder) if folder.is_dir() else None,
    }


def _status(state: ModelState) -> str:
    if state.descriptor is None:
        return "not registered"
    return "removed" if state.removed else "verified" if state.verified else "registered"


async def add_descriptor_file(settings: CliSettings, path: Path, *, quiet: bool) -> Json:
    """Register a model whose files are here; else keep its descriptor file for a later download."""
    entry = read_entry(path)
    library = ModelLibrary(settings.models_dir)
    folder = library.folder_of(entry.model_id)
    if not folder.is_dir() and entry.source.kind == "folder":
        folder = path.parent / entry.source.location
    if folder.is_dir():
        return await _add_with_files(settings, entry, folder, quiet=quiet)
    library.add_entry(entry, path.parent)
    pinned = "pinned" if entry.pinned else "not pinned: the download pins the files that it finds"
    message = f"the descriptor of {entry.model_id} is stored; its files are {pinned}"
    return _answer(entry, message, f"dreamforge models download {entry.model_id}")


async def add_folder(settings: CliSettings, folder: Path, *, quiet: bool) -> Json:
    """Check the files of a folder against its dreamforge.json, and register the model."""
    path = folder / DESCRIPTOR_NAME
    if not path.is_file():
        raise DescriptorNotFound(
            f"{folder} has no {DESCRIPTOR_NAME}: write a descriptor file with"
            f" `source: {{kind: folder, location: {folder}}}` and add that file"
        )
    descriptor = read_descriptor(path)
    check_family(descriptor.family, str(path))
    found = await read_with_bar(folder, quiet=quiet)
    _require_same_files(descriptor, folder, found.files, found.digest)
    return await _register(settings, descriptor, folder)


def _require_same_files(descriptor: ModelDescriptor, folder: Path, files: tuple[ModelFile, ...], digest: str) -> None:
    pinned = descriptor.source.files if descriptor.source else ()
    faults = faults_of(pinned, files) if pinned else ()
    if not faults and digest != descriptor.digest:
        faults = (Fault("all files", f"have digest {digest}, but must have {descriptor.digest}"),)
    if faults:
        raise ModelFilesWrong(str(folder), faults)


async def _add_with_files(settings: CliSettings, entry: CatalogEntry, folder: Path, *, quiet: bool) -> Json:
    found = await read_with_bar(folder, quiet=quiet)
    descriptor = checked(entry, entry.source, folder, found)
    if ModelLibrary(settings.models_dir).contains(folder):  # no runner reads other folders
        write_descriptor(folder, descriptor)
    return await _register(settings, descriptor, folder)


async def _register(settings: CliSettings, descriptor: ModelDescriptor, folder: Path) -> Json:
    model_id = descriptor.model_id
    command = RegisterModel(clock.now(), descriptor, by_hand=True)
    try:
        async with registry_client(settings) as registry:
            events = await registry.execute(model_id, command)
    except DependencyAway as error:
        hint = f"start the stack, then `dreamforge models add {folder}`; a runner with these files registers it too"
        message = f"the files of {model_id} are correct, but the registry is unavailable: {error}"
        raise CommandError(message, Exit.UNAVAILABLE, {"folder": str(folder)}, hint) from error
    message = f"{model_id} is registered" if events else f"{model_id} was already registered like this"
    if ModelLibrary(settings.models_dir).contains(folder):
        return _answer(descriptor, message)
    hint = f"no runner reads that folder: `dreamforge models download {model_id} --from {folder}` copies it to one"
    return _answer(descriptor, message, hint)


async def download_model(settings: CliSettings, model_id: str, mirror: str, *, quiet: bool) -> Json:
    """Download and check the files of a model, and register it. Errors: as `install`; UnknownModel."""
    library = ModelLibrary(settings.models_dir)
    entry, base_folder = library.entry(model_id) or await _registered_entry(settings, model_id)
    if not quiet:
        out.print(f"{model_id}: licence {entry.licence} {entry.licence_url}".rstrip())
    descriptor, folder = await install(settings, entry, mirror=mirror, base_folder=base_folder, quiet=quiet)
    return await _register(settings, descriptor, folder)


async def _registered_entry(settings: CliSettings, model_id: str) -> tuple[CatalogEntry, Path]:
    async with registry_client(settings) as registry:
        descriptor = (await registry.state(model_id)).descriptor
        if descriptor is None:
            raise await registry.unknown_model(model_id, ModelLibrary(settings.models_dir).entry_ids())
    if (entry := entry_of(descriptor)) is None:
        hint = "write a descriptor file with a source, then `dreamforge models add FILE`"
        raise CommandError(f"the descriptor of {model_id} does not name a source", Exit.REFUSED, hint=hint)
    return entry, Path()


async def verify_model(settings: CliSettings, model_id: str, *, quiet: bool) -> Json:
    """Compare every file of a model on this machine with the registry. Errors: ModelFilesWrong, UnknownModel."""
    async with registry_client(settings) as registry:
        descriptor = await _registered_model(registry, model_id)
        folder = ModelLibrary(settings.models_dir).installed_folder(model_id)
        found = await read_with_bar(folder, quiet=quiet)
        _require_same_files(descriptor, folder, found.files, found.digest)
        command = VerifyModel(clock.now(), found.digest, found.size_bytes, verified_by=platform.node())
        await registry.execute(model_id, command)
    return _answer(descriptor, f"{model_id} is correct: {len(found.files)} files, {found.size_bytes} bytes")


async def _registered_model(registry: ModelRegistryClient, model_id: str) -> ModelDescriptor:
    state = await registry.state(model_id)
    if state.descriptor is None or state.removed:
        raise await registry.unknown_model(model_id)
    return state.descriptor


async def remove_model(settings: CliSettings, model_id: str, *, keep_files: bool) -> Json:
    """Remove a model from the registry, and its files from this machine. Errors: UnknownModel."""
    async with registry_client(settings) as registry:
        descriptor = await _registered_model(registry, model_id)
        await registry.execute(model_id, RemoveModel(clock.now(), removed_by=platform.node()))
    library = ModelLibrary(settings.models_dir)
    deleted = None if keep_files else library.delete_files(model_id)
    library.delete_entry(model_id)
    files = f"{deleted} is deleted" if deleted else "no file was deleted"
    return _answer(descriptor, f"{model_id} can no longer be requested; {files}")


def _answer(model: ModelDescriptor | CatalogEntry, message: str, hint: str = "") -> Json:
    return {"model": model.model_dump(mode="json"), "licence": model.licence, "said": message, "next": hint}
