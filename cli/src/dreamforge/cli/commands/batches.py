"""`dreamforge batches`: lists, shows, watches, cancels and downloads what was requested as one."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.batches.reference import HELP, batch_id_of
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.command_group import GatewayGroup
from dreamforge.cli.commands.jobs import age, coloured
from dreamforge.cli.console import Json, emit, one_line, out, run
from dreamforge.cli.next_command import next_command
from dreamforge.cli.settings import CliSettings
from dreamforge.runtime import clock

app = GatewayGroup("List, show, watch, cancel and download batches, made by generate with a template or a grid.")
BatchId = Annotated[str, typer.Argument(metavar="BATCH", help=HELP)]


@app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many, newest first.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="The next_cursor of an earlier page.")] = None,
    json: Json = False,
) -> None:
    """Show the newest batches.

    Example: dreamforge batches list -n 5
    """
    run(_list(cli_settings.load(), limit, cursor, json=json))


async def _list(settings: CliSettings, limit: int, cursor: str | None, *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        page = await gateway.read("/v1/batches", limit=limit, cursor=cursor)
    if json:
        emit(page)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("batch", "status", "age", "done"):
        table.add_column(column, no_wrap=True)
    table.add_column("what", no_wrap=True, overflow="ellipsis")
    now = clock.now()
    for each in page["batches"]:
        age_seconds = (now - datetime.fromisoformat(each["requested_at"])).total_seconds()
        done = f"{each['counts'].get('succeeded', 0)}/{each['jobs']}"
        table.add_row(each["batch_id"], coloured(each["status"]), age(age_seconds), done, asked(each["template"]))
    out.print(table)
    if page["next_cursor"]:
        command = next_command(f"batches list --limit {limit} --cursor {page['next_cursor']}")
        out.print(f"more: {command}", style="dim", soft_wrap=True)


def asked(template: JsonObject) -> str:
    """What a batch was asked for, on one line.

    >>> asked({"request": {}, "template": {"prompt": "a {b|c}"}, "grid": [{"parameter": "steps", "values": [1, 2]}]})
    'a {b|c}; steps 1, 2'
    """
    prompt = template.get("template", {}).get("prompt") or template["request"].get("prompt") or ""
    axes = [f"{axis['parameter']} {', '.join(map(str, axis['values']))}" for axis in template.get("grid", ())]
    return one_line("; ".join(([str(prompt)] if prompt else []) + axes))


@app.command()
def show(batch_id: BatchId, json: Json = False) -> None:
    """Show one batch: what was asked for, and its jobs with what each was given."""
    run(_show(cli_settings.load(), batch_id, json=json))


async def _show(settings: CliSettings, text: str, *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        batch = await gateway.read(f"/v1/batches/{await batch_id_of(gateway, text)}")
    if json:
        emit(batch)
        return
    counts = ", ".join(f"{number} {status}" for status, number in batch["counts"].items())
    out.print(Text.assemble(batch["batch_id"], "  ", coloured(batch["status"]), f"  {counts}"), soft_wrap=True)
    from dreamforge.cli.batches.watch import chosen_text

    out.print(asked(batch["template"]), style="dim", soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("#", "status", "job", "images"):
        table.add_column(column, no_wrap=True)
    table.add_column("given", overflow="fold")
    for each in batch["members"]:
        given = chosen_text(each["values"])
        failure = f"  ({each['failure_message']})" if each["failure_message"] else ""
        images = str(len(each["images"]))
        table.add_row(str(each["index"]), coloured(each["status"]), each["job_id"], images, given + failure)
    out.print(table)


@app.command()
def watch(batch_id: BatchId, json: Json = False) -> None:
    """Watch a batch live to its end; save the images of each job when it has ended.

    With --json, print the events instead, one a line, and save nothing.
    """
    run(_watch(cli_settings.load(), batch_id, json=json))


async def _watch(settings: CliSettings, text: str, *, json: bool) -> None:
    from dreamforge.cli.batches.watch import watch_batch

    async with GatewayClient(settings) as gateway:
        folder = None if json else settings.output_dir
        await watch_batch(gateway, await batch_id_of(gateway, text), folder, as_json=json)


@app.command()
def cancel(batch_id: BatchId, json: Json = False) -> None:
    """Cancel all jobs of a batch that have not ended; running ones stop within one step."""
    run(_cancel(cli_settings.load(), batch_id, json=json))


async def _cancel(settings: CliSettings, text: str, *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        batch_id = await batch_id_of(gateway, text)
        answer = await gateway.cancel_batch(batch_id)
    if json:
        emit(answer)
        return
    out.print(f"{batch_id}: cancellation requested for every job that has not ended", soft_wrap=True)


@app.command()
def download(
    batch_id: BatchId,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file; default: out/batch-ID.zip.")] = None,
    json: Json = False,
) -> None:
    """Save the finished images of a batch as one zip file, with batch.json, which says what each of them is.

    Example: dreamforge batches download last -o foxes.zip
    """
    run(_download(cli_settings.load(), batch_id, output, json=json))


async def _download(settings: CliSettings, text: str, output: Path | None, *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        batch_id = await batch_id_of(gateway, text)
        path = output or settings.output_dir / f"batch-{batch_id[-8:]}.zip"
        await gateway.download(f"{gateway.base_url}/v1/batches/{batch_id}/images.zip", path)
    emit({"batch_id": batch_id, "file": str(path)}) if json else out.print(str(path), soft_wrap=True)


@app.command()
def wildcards(json: Json = False) -> None:
    """List the wildcards that prompt templates may name."""
    run(_wildcards(cli_settings.load(), json=json))


async def _wildcards(settings: CliSettings, *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        found = await gateway.read("/v1/wildcards")
    if json:
        emit(found)
        return
    if not found["wildcards"]:
        out.print("no wildcards: FORGE_GATEWAY_WILDCARDS_DIR of the gateway names their folder", soft_wrap=True)
    for each in found["wildcards"]:
        more = ", ..." if each["values"] > len(each["first"]) else ""
        out.print(f"__{each['name']}__  {each['values']}: {', '.join(each['first'])}{more}", soft_wrap=True)
    for each in found["refused"]:
        out.print(f"{each['name']}: {each['reason']}", style="yellow", soft_wrap=True)
