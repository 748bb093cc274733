"""`dreamforge runners`: who paints."""

import typer
from rich.table import Table

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import Gateway
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.console import Json, emit, out, run

runners_app = typer.Typer(help="Who paints.", no_args_is_help=True, rich_markup_mode="rich")


async def _read(path: str) -> JsonObject:
    async with Gateway(cli_settings.load()) as gateway:
        return await gateway.read(path)


@runners_app.command("list")
def list_runners(json: Json = False) -> None:
    """Show every runner, what it paints on, and what it is doing."""
    answer = run(_read("/v1/runners"))
    if json:
        emit(answer)
        return
    table = table_of("runner", "status", "renderer", "device", "busy", "free", "models")
    for runner in answer["runners"]:
        beat = runner["heartbeat"]
        busy = f"{len(beat['active'])} of {runner['slots']}" if beat else ""
        free = f"{beat['free_bytes'] / 2**30:.1f} GiB" if beat else ""
        status = runner["status"] if beat or runner["status"] != "online" else "silent"
        device = runner["device"]["name"]
        table.add_row(
            runner["runner_id"], status, runner["renderer"], device, busy, free, ", ".join(runner["model_ids"])
        )
    out.print(table)


def table_of(*columns: str) -> Table:
    """A table without a frame, whose names are never folded."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("model", "runner", "status"))
    return table
