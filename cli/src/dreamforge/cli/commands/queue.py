"""`dreamforge queue`: holds and releases the waiting jobs of a tenant, or of the fleet."""

from typing import Annotated

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.command_group import GatewayGroup
from dreamforge.cli.console import Json, emit, out, run

app = GatewayGroup("Hold and release the waiting jobs of a tenant, or all.")
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only the queue of this tenant; default: every queue.")]


@app.command()
def show(json: Json = False) -> None:
    """Show which queues are held."""
    _print(run(_read()), json=json)


@app.command()
def hold(tenant: Tenant = None, json: Json = False) -> None:
    """Assign no waiting job until a release; attempts that run go on.

    Example: dreamforge queue hold --tenant studio-a
    """
    _print(run(_command("hold", tenant)), json=json)


@app.command()
def release(tenant: Tenant = None, json: Json = False) -> None:
    """Assign waiting jobs again. A tenant's own hold outlasts a release of every queue."""
    _print(run(_command("release", tenant)), json=json)


async def _read() -> JsonObject:
    async with GatewayClient(cli_settings.load()) as gateway:
        return await gateway.read("/v1/queue")


async def _command(name: str, tenant: str | None) -> JsonObject:
    async with GatewayClient(cli_settings.load()) as gateway:
        return await gateway.command_queue(name, tenant)


def _print(answer: JsonObject, *, json: bool) -> None:
    if json:
        emit(answer)
        return
    if not answer["held"]:
        out.print("no queue is held")
    for each in answer["held"]:
        queue = "every queue" if each["tenant"] is None else f"the queue of tenant {each['tenant']}"
        out.print(f"{queue} is held since {each['held_since']}", soft_wrap=True)
