"""Shows, downloads, verifies and removes models: files on this machine, and the registry in the log."""

import asyncio
import platform
from pathlib import Path

from dreamforge.cli.console import out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.models.install import download_model, survey_with_bar
from dreamforge.cli.models.library import ModelLibrary, entry_of
from dreamforge.cli.models.registration import Result, register, result
from dreamforge.cli.models.registry import ModelRegistryClient, registry_client
from dreamforge.cli.models.verification import refuse_other_files
from dreamforge.cli.models.weight_check import check_weights
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.model_registry import ModelState, RemoveModel, VerifyModel
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.models.descriptor_file import CatalogEntry
from dreamforge.runtime import clock
from dreamforge.runtime.storage.descriptor_fit import fitted
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_inspection import inspect_model


async def show(settings: CliSettings, model_id: str) -> Result:
    """What the registry, a descriptor file and the models folder have of a model. Errors: UnknownModel."""
    library = ModelLibrary(settings.models_dir)
    entry = library.find_entry(model_id)
    async with registry_client(settings) as registry:
        state = await registry.state(model_id)
        described = state.descriptor or (entry[0] if entry else None)
        if described is None:
            raise await registry.unknown_model(model_id, library.known_ids())
    folder = library.find_folder(model_id)
    problem = await asyncio.to_thread(_problem, state.descriptor, folder) if state.descriptor and folder else ""
    return {
        "model": described.model_dump(mode="json"),
        "status": _status(state),
        "verified_at": state.verified_at.isoformat() if state.verified and state.verified_at else None,
        "folder": str(folder) if folder else None,
        "problem": problem,
    }


def _problem(descriptor: ModelDescriptor, folder: Path) -> str:
    """Why no runner can load the files that are here; "" if nothing is known against it."""
    try:
        fitted(descriptor, inspect_model(folder))
    except (ModelUnusable, OSError) as error:
        return str(error)
    return ""


def _status(state: ModelState) -> str:
    if state.descriptor is None:
        return "not registered"
    return "removed" if state.removed else "verified" if state.verified else "registered"


async def download(settings: CliSettings, model_id: str, mirror: str, *, quiet: bool) -> Result:
    """Download a model and register it. Errors: UnknownModel, CommandError, and those of `download_model`."""
    entry, base_folder = ModelLibrary(settings.models_dir).find_entry(model_id) or await _registered(settings, model_id)
    if not quiet:
        out.print(f"{model_id}: licence {entry.licence} {entry.licence_url}".rstrip())
        for each in entry.source.components:
            accepted = f"; to be accepted on the page of {each.location}" if each.gated else ""
            out.print(f"{model_id}: {each.name}: licence {each.licence} {each.licence_url}".rstrip() + accepted)
    descriptor, folder = await download_model(settings, entry, mirror=mirror, base_folder=base_folder, quiet=quiet)
    return await register(settings, descriptor, folder)


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
    """Compare every file with the registry and record it.

    Errors: UnknownModel, ModelNotDownloaded, ModelFilesWrong; ModelUnusable where the right files cannot be loaded.
    """
    async with registry_client(settings) as registry:
        descriptor = await _available(registry, model_id)
        folder = ModelLibrary(settings.models_dir).existing_folder_of(model_id)
        found = await survey_with_bar(folder, quiet=quiet)
        refuse_other_files(descriptor, folder, found)
        fitted(descriptor, await asyncio.to_thread(inspect_model, folder))
        await asyncio.to_thread(check_weights, settings, folder, descriptor.kind)
        command = VerifyModel(clock.now(), found.digest, found.size_bytes, verified_by=platform.node())
        await registry.execute(model_id, command)
    return result(descriptor, f"{model_id} is verified: {len(found.files)} files, {found.size_bytes} bytes")


async def remove(settings: CliSettings, model_id: str, *, keep_files: bool) -> Result:
    """Remove a model from the registry, and its files unless `keep_files`. Errors: UnknownModel, OSError."""
    async with registry_client(settings) as registry:
        descriptor = await _available(registry, model_id)
        await registry.execute(model_id, RemoveModel(clock.now(), removed_by=platform.node()))
    library = ModelLibrary(settings.models_dir)
    deleted = None if keep_files else library.delete_folder(model_id)
    library.remove_entry(model_id)
    files = f"{deleted} is deleted" if deleted else "no file was deleted"
    if deleted is None and not keep_files and (same_name := library.folder / model_id).is_dir():
        files += f": {same_name} is not proved to be its folder"
    return result(descriptor, f"{model_id} is removed from the registry; {files}")


async def _available(registry: ModelRegistryClient, model_id: str) -> ModelDescriptor:
    state = await registry.state(model_id)
    if state.descriptor is None or state.removed:
        raise await registry.unknown_model(model_id)
    return state.descriptor
