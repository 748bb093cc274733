"""`dreamforge import`: a picture of another program becomes a request."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.pictures.formats import content_type_of


def import_picture(
    picture: Annotated[Path, typer.Argument(help="A PNG, JPEG, WebP or AVIF, as its program has saved it.")],
    submit: Annotated[bool, typer.Option("--submit", help="Submit the request, wait, and save its images.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the images go.")] = None,
    json: Json = False,
) -> None:
    """Read the request in a picture of A1111, Forge, ComfyUI, InvokeAI, SwarmUI, Fooocus, NovelAI or ours.

    Shows the fields of a request, the models that it means, and everything in the picture that has no counterpart.

    Examples:

      dreamforge import 00012-3857.png
      dreamforge import 00012-3857.png --submit
      dreamforge import 00012-3857.png --json
    """
    settings = cli_settings.load()
    run(_import(settings, picture, output or settings.output_dir if submit else None, json=json))


async def _import(settings: CliSettings, picture: Path, folder: Path | None, *, json: bool) -> None:
    """Without a folder, submit nothing."""
    data = await asyncio.to_thread(_read, picture)
    async with GatewayClient(settings) as gateway:
        found = await gateway.import_picture(data, content_type_of(data) or "application/octet-stream")
        if folder is None:
            emit(found) if json else _print(found)
            return
        if not json:
            _print(found, err)
        if "prompt" not in found["request"]:
            raise CommandError("the picture has no prompt, so there is nothing to submit", Exit.REFUSED)
        job_id = (await gateway.submit(found["request"]))["job_id"]
        from dreamforge.cli.jobs.result import raise_unless_succeeded, watch_and_save

        view, paths = await watch_and_save(gateway, job_id, folder, quiet=json)
        if json:
            emit({"import": found, "job": await gateway.job(job_id), "files": [str(path) for path in paths]})
        raise_unless_succeeded(job_id, view)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", Exit.REFUSED) from None


def _print(found: JsonObject, console: Console = out) -> None:
    console.print(f"made with {found['tool']}", style="dim")
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in found["request"].items():
        table.add_row(Text(name, style="dim"), Text(str(value)))
    console.print(table)
    for kind, asset in _assets(found):
        console.print(Text(f"{kind} {_described(asset)}", "green" if asset["model_id"] else "yellow"))
    for each in found["unmapped"]:
        console.print(Text(f"not taken: {each['name']} {each['value']}: {each['reason']}", "yellow"), soft_wrap=True)


def _assets(found: JsonObject) -> list[tuple[str, JsonObject]]:
    model = [("model", found["model"])] if found["model"] else []
    return [*model, *(("LoRA", each) for each in found["loras"])]


def _described(asset: JsonObject) -> str:
    """The registered model, or the name and hash of the one that is missing."""
    named = f"{asset['name']} {asset['hash'] and '(' + asset['hash'] + ')'}".strip()
    if asset["model_id"] is None:
        return f"{named} is missing: {asset['note']}"
    note = f"; {asset['note']}" if asset["note"] else ""
    return f"{named} is {asset['model_id']}, by {asset['matched_by']}{note}"
