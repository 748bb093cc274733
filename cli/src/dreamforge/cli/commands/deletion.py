"""`dreamforge jobs delete`, `undelete` and `deleted`: delete jobs, and undo that until they are erased."""

from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.jobs.job_reference import HELP, job_id_of
from dreamforge.cli.next_command import next_command
from dreamforge.cli.settings import CliSettings

JobId = Annotated[str, typer.Argument(metavar="JOB", help=HELP)]
FullId = Annotated[str, typer.Argument(metavar="JOB", help="The whole id: `dreamforge jobs deleted` lists them.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to those about jobs."""
    app.command("delete")(delete)
    app.command("undelete")(undelete)
    app.command("deleted")(deleted)


def delete(job_id: JobId, json: Json = False) -> None:
    """Delete a job with its prompt and images; an open one is cancelled first.

    It can be undone for a while (FORGE_ERASURE_GRACE_SECONDS); then it is erased for good.
    """
    run(_delete(cli_settings.load(), job_id, json=json))


async def _delete(settings: CliSettings, job_id: str, *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        job_id = await job_id_of(gateway, job_id)
        answer = await gateway.delete(f"/v1/jobs/{job_id}")
    if json:
        emit(answer)
        return
    out.print(Text(f"{job_id} is deleted, and erased for good on {_time(answer['erase_at'])}"), soft_wrap=True)
    out.print(f"undo: {next_command(f'jobs undelete {job_id}')}", style="dim", soft_wrap=True)


def undelete(job_id: FullId, json: Json = False) -> None:
    """Show a deleted job again. One that was open when it was deleted stays cancelled."""
    run(_undelete(cli_settings.load(), job_id, json=json))


async def _undelete(settings: CliSettings, job_id: str, *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        answer = await gateway.command(job_id, "undelete")
    emit(answer) if json else out.print(Text(f"{job_id} is {answer['status']}, and shown again"), soft_wrap=True)


def deleted(json: Json = False) -> None:
    """List the deleted jobs that can be undeleted, the soonest to be erased first."""
    run(_deleted(cli_settings.load(), json=json))


async def _deleted(settings: CliSettings, *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        found = (await gateway.read("/v1/erasures"))["erasures"]
    if json:
        emit({"erasures": found})
        return
    for each in found:
        out.print(Text(f"{each['job_id']}  is erased on {_time(each['erase_at'])}"), soft_wrap=True)
    if not found:
        out.print("no deleted job can be undeleted")


def _time(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"
