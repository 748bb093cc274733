"""`dreamforge models`: list, show, add, download, verify and remove models."""

from collections.abc import Coroutine
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.table import Table
from rich.text import Text

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.command_group import GatewayGroup
from dreamforge.cli.commands.scan_models import scan_models
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.models.description import AddOptions
from dreamforge.cli.tables import table_of
from dreamforge.contracts.token import Token

app = GatewayGroup("List, show, add, scan for, download, verify and remove models.")
app.command("scan")(scan_models)
GIB = 2**30


def _token(value: str) -> str:
    """A valid id: it becomes a folder name and a part of a subject."""
    try:
        return TypeAdapter[str](Token).validate_python(value)
    except ValidationError:
        raise typer.BadParameter(f"{value!r} is not an id: 1 to 64 letters, digits, - and _") from None


def _optional_token(value: str) -> str:
    return _token(value) if value else value


ModelId = Annotated[str, typer.Argument(metavar="ID", callback=_token, help="The model's id; `models list` shows it.")]


@app.command("list")
def list_models(json: Json = False) -> None:
    """List the registered models, their presets and the runners that have loaded them.

    Examples:

      dreamforge models list
      dreamforge models list --json
    """
    answer = run(_read("/v1/models"))
    if json:
        emit(answer)
        return
    table = table_of("model", "presets", "runners", "loaded on", "licence", "title")
    for model in answer["models"]:
        found = model["descriptor"]
        name = found["model_id"] + (" (default)" if model["default"] else "")
        presets = ", ".join(preset["name"] for preset in found["presets"])
        on = ", ".join(model["runners"]) or "none"
        parts = (found.get("source") or {}).get("components") or ()
        licences = "; ".join(dict.fromkeys((found["licence"], *(each["licence"] for each in parts))))
        table.add_row(name, presets, on, ", ".join(model["resident_on"]), licences, found["title"])
    out.print(table)


@app.command()
def show(model_id: ModelId, json: Json = False) -> None:
    """Show a model: licence, files, memory, presets, and whether it was verified.

    Examples:

      dreamforge models show forge-shapes
      dreamforge models show sdxl-turbo --json
    """
    from dreamforge.cli.models import operations

    found = run(operations.show(cli_settings.load(), model_id))
    if json:
        emit(found)
    else:
        out.print(_facts(found))


@app.command()
def add(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE-or-FOLDER-or-URL",
            help="Weights, a model's folder, a descriptor file, a repository as owner/name, or a URL.",
        ),
    ],
    model_id: Annotated[str, typer.Option("--id", callback=_optional_token, help="Id; default: as the file.")] = "",
    title: Annotated[str, typer.Option("--title", help="Title; default: what the file says, else its name.")] = "",
    family: Annotated[str, typer.Option("--family", help="Family; default: read from the weights.")] = "",
    licence: Annotated[str, typer.Option("--licence", help="Licence; default: what the files say.")] = "",
    configuration: Annotated[
        str,
        typer.Option(
            "--configuration",
            metavar="OWNER/NAME-or-FOLDER",
            help="For a checkpoint in one file: where its configurations are; default: its family's repository.",
        ),
    ] = "",
    variant: Annotated[str, typer.Option("--variant", help="Weights to prefer in a repository: fp16.")] = "",
    link: Annotated[bool, typer.Option("--link", help="Link to files of this machine, instead of copying.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Also if the id has other files.")] = False,
    json: Json = False,
) -> None:
    """Add a model: its files are brought into the models folder, checked, and registered.

    What it is (family, kind, modes, memory) is read from the weights and configurations; options override it, and a
    descriptor file (YAML) says all of it. What cannot be rendered with is refused before anything is copied.

    Examples:

      dreamforge models add my-lora.safetensors
      dreamforge models add /data/models/my-model --link
      dreamforge models add owner/name --variant fp16
      dreamforge models add https://example.org/my-checkpoint.safetensors --id my-checkpoint
      dreamforge models add models/sdxl-turbo.yaml
    """
    from dreamforge.cli.models import add as adding

    options = AddOptions(model_id, title, family, licence, configuration, variant, link=link, replace=replace)
    _finish(adding.add(cli_settings.load(), what, options, quiet=json), json)


@app.command()
def download(
    model_id: ModelId,
    mirror: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="URL-or-FOLDER",
            help="Location of the files instead of the source: a mirror, or a folder.",
        ),
    ] = "",
    json: Json = False,
) -> None:
    """Download a model's files, check them, and register the model. Resumes an interrupted download.

    Downloads only safetensors. A file becomes visible when its size and sha256 are right. The free disk space is
    checked first.

    Examples:

      dreamforge models download sdxl-turbo
      dreamforge models download sdxl-turbo --from https://mirror.example/sdxl-turbo
      dreamforge models download sdxl-turbo --from /media/usb/sdxl-turbo
    """
    from dreamforge.cli.models import operations

    _finish(operations.download(cli_settings.load(), model_id, mirror, quiet=json), json)


@app.command()
def verify(model_id: ModelId, json: Json = False) -> None:
    """Read every file of a model on this machine and compare it with the registry.

    Examples:

      dreamforge models verify forge-shapes
    """
    from dreamforge.cli.models import operations

    _finish(operations.verify(cli_settings.load(), model_id, quiet=json), json)


@app.command()
def remove(
    model_id: ModelId,
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Keep its files on the disk.")] = False,
    json: Json = False,
) -> None:
    """Remove a model from the registry and delete its files here. Accepted jobs still run on other runners.

    A runner that still has its files does not register it again; `models add` does.

    Examples:

      dreamforge models remove sdxl-turbo
      dreamforge models remove sdxl-turbo --keep-files
    """
    from dreamforge.cli.models import operations

    _finish(operations.remove(cli_settings.load(), model_id, keep_files=keep_files), json)


async def _read(path: str) -> JsonObject:
    async with GatewayClient(cli_settings.load()) as gateway:
        return await gateway.read(path)


def _finish(work: Coroutine[None, None, JsonObject], json: bool) -> None:
    """Run an operation and print its result. Errors: CommandError for a disk error."""
    try:
        result = run(work)
    except OSError as error:
        raise CommandError(f"{error.filename or 'the disk'}: {error.strerror or error}", Exit.FAILED) from error
    if json:
        emit(result)
        return
    out.print(f"{result['said']}\nlicence  {result['licence']}", soft_wrap=True)
    if result["next"]:
        out.print(f"next  {result['next']}", soft_wrap=True)


def _component(component: JsonObject) -> str:
    """Where a part comes from that the model's own repository does not have."""
    where = "/".join(filter(None, (component["location"], component.get("subfolder"))))
    return f"from {where} {component['revision']}".rstrip() + f", licence {_licence(component)}"


def _licence(of: JsonObject) -> str:
    return f"{of['licence']} {of.get('licence_url', '')}".rstrip()


def _facts(found: JsonObject) -> Table:
    model, table = found["model"], Table(box=None, show_header=False, pad_edge=False)
    source = model.get("source") or {}
    rows = {
        "model": f"{model['model_id']}  {model['title']}".rstrip(),
        "status": found["status"] + (f" at {found['verified_at']}" if found["verified_at"] else ""),
        **({"not offered": found["problem"]} if found.get("problem") else {}),
        "family": model["family"],
        "licence": _licence(model),
        **{each["name"]: _component(each) for each in source.get("components") or ()},
        "digest": model.get("digest") or "unknown before a download",
        "from": f"{source['kind']} {source['location']} {source['revision']}".rstrip() if source else "unknown",
        "files": f"{len(source['files'])} pinned" if source.get("files") else "not pinned",
        "here": found["folder"] or f"no: use `dreamforge models download {model['model_id']}`",
        "presets": ", ".join(preset["name"] for preset in model["presets"]),
        "memory": f"{model['vram']['resident_bytes'] / GIB:.2f} GiB of weights",
        "tiers": ", ".join(tier["name"] for tier in model.get("tiers") or ()) or "full",
    }
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), value)
    return table
