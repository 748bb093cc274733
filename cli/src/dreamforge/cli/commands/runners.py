"""`dreamforge runners`: lists the runners."""

import typer
from rich.table import Table

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.console import Json, emit, out, run

app = typer.Typer(help="List runners.", no_args_is_help=True, rich_markup_mode="rich")


async def _read(path: str) -> JsonObject:
    async with GatewayClient(cli_settings.load()) as gateway:
        return await gateway.read(path)


@app.command("list")
def list_runners(json: Json = False) -> None:
    """List every runner with its device, load and models."""
    answer = run(_read("/v1/runners"))
    if json:
        emit(answer)
        return
    table = table_of("runner", "status", "renderer", "device", "busy", "free", "models")
    for runner in answer["runners"]:
        heartbeat = runner["heartbeat"]
        busy = f"{len(heartbeat['active'])} of {runner['slots']}" if heartbeat else ""
        free = f"{heartbeat['free_bytes'] / 2**30:.1f} GiB" if heartbeat else ""
        status = runner["status"] if heartbeat or runner["status"] != "online" else "silent"
        device = runner["device"]["name"]
        table.add_row(
            runner["runner_id"], status, runner["renderer"], device, busy, free, ", ".join(runner["model_ids"])
        )
    out.print(table)


def table_of(*columns: str) -> Table:
    """A table without a frame; columns with names do not wrap."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("model", "runner", "status"))
    return table
