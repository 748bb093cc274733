"""`dreamforge models`: what can be painted, and how a model gets here, is checked, and goes."""

import platform
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.commands.runners import table_of
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.models.install import bring, describe, read_with_bar
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
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelFile, Token
from dreamforge.contracts.models.descriptor_file import CatalogEntry, check_family
from dreamforge.runtime import clock
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, Fault, ModelFilesWrong, faults_of

app = typer.Typer(
    help="What can be painted: see, add, download, verify and remove models.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
GIB = 2**30


def _token(value: str) -> str:
    """An id is also a folder's name and a part of a subject: nothing else gets near those."""
    try:
        return TypeAdapter[str](Token).validate_python(value)
    except ValidationError:
        raise typer.BadParameter(f"{value!r} is no id: 1 to 64 letters, digits, - and _") from None


ModelId = Annotated[
    str, typer.Argument(metavar="ID", callback=_token, help="The model, by the id that `models list` shows.")
]


@app.command("list")
def list_models(json: Json = False) -> None:
    """Show the registered models, their presets and where they are loaded.

    Examples:

      dreamforge models list
      dreamforge models list --json
    """
    answer = run(_read("/v1/models"))
    if json:
        emit(answer)
        return
    table = table_of("model", "presets", "runners", "loaded on", "title")
    for model in answer["models"]:
        found = model["descriptor"]
        name = found["model_id"] + (" (default)" if model["default"] else "")
        presets = ", ".join(preset["name"] for preset in found["presets"])
        on = ", ".join(model["runners"]) or "nobody now"
        table.add_row(name, presets, on, ", ".join(model["resident_on"]), found["title"])
    out.print(table)


@app.command()
def show(model_id: ModelId, json: Json = False) -> None:
    """Show what is known of a model: licence, files, memory, presets, and whether it was verified.

    Examples:

      dreamforge models show forge-shapes
      dreamforge models show sdxl-turbo --json
    """
    found = run(_show(cli_settings.load(), model_id))
    if json:
        emit(found)
    else:
        out.print(_facts(found))


@app.command()
def add(
    path: Annotated[Path, typer.Argument(metavar="FILE-or-FOLDER", help="A descriptor file, or a model's folder.")],
    json: Json = False,
) -> None:
    """Make a model known: from a descriptor file, or from a folder that has a dreamforge.json.

    Files that are here are read and checked first, and the model is registered. If they are not here, the
    descriptor is kept, and `models download` brings them; where it lists no checksums, the download pins what it
    finds and registers the pinned list.

    Examples:

      dreamforge models add models/sdxl-turbo.yaml
      dreamforge models add /data/models/my-model
    """
    add_it = _add_folder if path.is_dir() else _add_file
    _done(add_it(cli_settings.load(), path, quiet=json), json)


@app.command()
def download(
    model_id: ModelId,
    mirror: Annotated[
        str, typer.Option("--from", metavar="URL-or-FOLDER", help="Take the files from here: a mirror, or a folder.")
    ] = "",
    json: Json = False,
) -> None:
    """Bring a model's files here, check them, and register the model. Goes on where it was interrupted.

    Only safetensors are taken. A file becomes visible when its size and sha256 are right. The room on the disk is
    asked for first.

    Examples:

      dreamforge models download sdxl-turbo
      dreamforge models download sdxl-turbo --from https://mirror.example/sdxl-turbo
      dreamforge models download sdxl-turbo --from /media/usb/sdxl-turbo
    """
    _done(_download(cli_settings.load(), model_id, mirror, quiet=json), json)


@app.command()
def verify(model_id: ModelId, json: Json = False) -> None:
    """Read every file of a model on this machine and compare it with the registry.

    Examples:

      dreamforge models verify forge-shapes
    """
    _done(_verify(cli_settings.load(), model_id, quiet=json), json)


@app.command()
def remove(
    model_id: ModelId,
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Leave its files on the disk.")] = False,
    json: Json = False,
) -> None:
    """Take a model out of the registry and delete its files here. Jobs that were promised it still get it elsewhere.

    A runner that still has its files does not bring it back; `models add` does.

    Examples:

      dreamforge models remove sdxl-turbo
      dreamforge models remove sdxl-turbo --keep-files
    """
    _done(_remove(cli_settings.load(), model_id, keep_files=keep_files), json)


async def _read(path: str) -> JsonObject:
    async with GatewayClient(cli_settings.load()) as gateway:
        return await gateway.read(path)


async def _show(settings: CliSettings, model_id: str) -> JsonObject:
    shelf = ModelLibrary(settings.models_dir)
    found = shelf.entry(model_id)
    async with registry_client(settings) as registry:
        state = await registry.state(model_id)
        if state.descriptor is None and found is None:
            raise await registry.unknown(model_id, shelf.known())
    described: ModelDescriptor | CatalogEntry | None = state.descriptor or (found[0] if found else None)
    assert described is not None
    place = shelf.place(model_id)
    return {
        "model": described.model_dump(mode="json"),
        "status": _status(state),
        "verified_at": state.verified_at.isoformat() if state.verified and state.verified_at else None,
        "folder": str(place) if place.is_dir() else None,
    }


def _status(state: ModelState) -> str:
    if state.descriptor is None:
        return "not registered"
    return "removed" if state.removed else "verified" if state.verified else "registered"


async def _add_file(settings: CliSettings, path: Path, *, quiet: bool) -> JsonObject:
    entry = read_entry(path)
    shelf = ModelLibrary(settings.models_dir)
    place = shelf.place(entry.model_id)
    if not place.is_dir() and entry.source.kind == "folder":
        place = path.parent / entry.source.location
    if place.is_dir():
        return await _add_here(settings, entry, place, quiet=quiet)
    shelf.keep(entry, path.parent)
    pinned = "pinned" if entry.pinned else "not pinned: the download pins what it finds, and registers that list"
    said = f"{entry.model_id} is known here now; its files are {pinned}"
    return _answer(entry, said, f"dreamforge models download {entry.model_id}")


async def _add_folder(settings: CliSettings, folder: Path, *, quiet: bool) -> JsonObject:
    path = folder / DESCRIPTOR_NAME
    if not path.is_file():
        raise DescriptorNotFound(
            f"{folder} has no {DESCRIPTOR_NAME}: write a descriptor file with"
            f" `source: {{kind: folder, location: {folder}}}` and add that"
        )
    descriptor = read_descriptor(path)
    check_family(descriptor.family, str(path))
    found = await read_with_bar(folder, quiet=quiet)
    _refuse_other_files(descriptor, folder, found.files, found.digest)
    return await _register(settings, descriptor, folder)


def _refuse_other_files(descriptor: ModelDescriptor, folder: Path, files: tuple[ModelFile, ...], digest: str) -> None:
    pinned = descriptor.source.files if descriptor.source else ()
    faults = faults_of(pinned, files) if pinned else ()
    if not faults and digest != descriptor.digest:
        faults = (Fault("all files", f"have digest {digest}, but must have {descriptor.digest}"),)
    if faults:
        raise ModelFilesWrong(str(folder), faults)


async def _add_here(settings: CliSettings, entry: CatalogEntry, folder: Path, *, quiet: bool) -> JsonObject:
    found = await read_with_bar(folder, quiet=quiet)
    descriptor = checked(entry, entry.source, folder, found)
    if ModelLibrary(settings.models_dir).holds(folder):  # elsewhere no runner would read it
        describe(folder, descriptor)
    return await _register(settings, descriptor, folder)


async def _register(settings: CliSettings, descriptor: ModelDescriptor, folder: Path) -> JsonObject:
    model_id = descriptor.model_id
    command = RegisterModel(clock.now(), descriptor, by_hand=True)
    try:
        async with registry_client(settings) as registry:
            events = await registry.tell(model_id, command)
    except DependencyAway as error:
        hint = f"start the stack, then `dreamforge models add {folder}`; a runner with these files does it by itself"
        said = f"the files of {model_id} are right, but the registry could not be told: {error}"
        raise CommandError(said, Exit.UNAVAILABLE, {"folder": str(folder)}, hint) from error
    said = f"{model_id} is registered" if events else f"{model_id} was registered just so before"
    if ModelLibrary(settings.models_dir).holds(folder):
        return _answer(descriptor, said)
    hint = f"no runner looks there: `dreamforge models download {model_id} --from {folder}` brings it to one"
    return _answer(descriptor, said, hint)


async def _download(settings: CliSettings, model_id: str, mirror: str, *, quiet: bool) -> JsonObject:
    shelf = ModelLibrary(settings.models_dir)
    entry, beside = shelf.entry(model_id) or await _registered(settings, model_id)
    if not quiet:
        out.print(f"{model_id}: licence {entry.licence} {entry.licence_url}".rstrip())
    descriptor, folder = await bring(settings, entry, mirror=mirror, beside=beside, quiet=quiet)
    return await _register(settings, descriptor, folder)


async def _registered(settings: CliSettings, model_id: str) -> tuple[CatalogEntry, Path]:
    async with registry_client(settings) as registry:
        descriptor = (await registry.state(model_id)).descriptor
        if descriptor is None:
            raise await registry.unknown(model_id, ModelLibrary(settings.models_dir).known())
    if (entry := entry_of(descriptor)) is None:
        hint = "write a descriptor file with a source, then `dreamforge models add FILE`"
        raise CommandError(f"nobody wrote down where {model_id} comes from", Exit.REFUSED, hint=hint)
    return entry, Path()


async def _verify(settings: CliSettings, model_id: str, *, quiet: bool) -> JsonObject:
    async with registry_client(settings) as registry:
        descriptor = await _available(registry, model_id)
        folder = ModelLibrary(settings.models_dir).here(model_id)
        found = await read_with_bar(folder, quiet=quiet)
        _refuse_other_files(descriptor, folder, found.files, found.digest)
        command = VerifyModel(clock.now(), found.digest, found.size_bytes, verified_by=platform.node())
        await registry.tell(model_id, command)
    return _answer(descriptor, f"{model_id} is right: {len(found.files)} files, {found.size_bytes} bytes")


async def _available(registry: ModelRegistryClient, model_id: str) -> ModelDescriptor:
    state = await registry.state(model_id)
    if state.descriptor is None or state.removed:
        raise await registry.unknown(model_id)
    return state.descriptor


async def _remove(settings: CliSettings, model_id: str, *, keep_files: bool) -> JsonObject:
    async with registry_client(settings) as registry:
        descriptor = await _available(registry, model_id)
        await registry.tell(model_id, RemoveModel(clock.now(), removed_by=platform.node()))
    shelf = ModelLibrary(settings.models_dir)
    gone = None if keep_files else shelf.drop(model_id)
    shelf.forget(model_id)
    files = f"{gone} is deleted" if gone else "no file was deleted"
    return _answer(descriptor, f"{model_id} can no longer be asked for; {files}")


def _answer(model: ModelDescriptor | CatalogEntry, said: str, hint: str = "") -> JsonObject:
    return {"model": model.model_dump(mode="json"), "licence": model.licence, "said": said, "next": hint}


def _done(work: Coroutine[None, None, JsonObject], json: bool) -> None:
    """See a command to its end and say what came of it. Errors: CommandError for a disk that cannot be used."""
    try:
        answer = run(work)
    except OSError as error:
        raise CommandError(f"{error.filename or 'the disk'}: {error.strerror or error}", Exit.FAILED) from error
    if json:
        emit(answer)
        return
    out.print(f"{answer['said']}\nlicence  {answer['licence']}", soft_wrap=True, markup=False)
    if answer["next"]:
        out.print(f"next  {answer['next']}", soft_wrap=True, markup=False)


def _facts(found: JsonObject) -> Table:
    model, table = found["model"], Table(box=None, show_header=False, pad_edge=False)
    source = model.get("source") or {}
    rows = {
        "model": f"{model['model_id']}  {model['title']}".rstrip(),
        "status": found["status"] + (f" at {found['verified_at']}" if found["verified_at"] else ""),
        "family": model["family"],
        "licence": f"{model['licence']} {model.get('licence_url', '')}".rstrip(),
        "digest": model.get("digest") or "not known before a download",
        "from": f"{source['kind']} {source['location']} {source['revision']}".rstrip()
        if source
        else "not written down",
        "files": f"{len(source['files'])} pinned" if source.get("files") else "not pinned",
        "here": found["folder"] or "no: `dreamforge models download` brings them",
        "presets": ", ".join(preset["name"] for preset in model["presets"]),
        "memory": f"{model['vram']['resident_bytes'] / GIB:.2f} GiB of weights",
        "tiers": ", ".join(tier["name"] for tier in model.get("tiers") or ()) or "full",
    }
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/dim]", value)
    return table
