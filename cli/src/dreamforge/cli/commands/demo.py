"""`dreamforge demo`: starts a stack in an empty folder, renders one image and shows the events of its job."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dreamforge.cli.client.event_log import connect_bus, events_of_job
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.commands.up import stack_options
from dreamforge.cli.console import err, out, printable, run
from dreamforge.cli.failure import CommandError
from dreamforge.cli.jobs.event_descriptions import event_lines, event_table
from dreamforge.cli.jobs.result import raise_unless_succeeded, watch_and_save
from dreamforge.cli.local_parts import require_local_parts
from dreamforge.cli.service_settings import require_valid
from dreamforge.cli.settings import CliSettings, from_environment, with_running_stack
from dreamforge.cli.stack.show import stack_table
from dreamforge.cli.stack_record import StackRecord, read_record
from dreamforge.runtime import clock

POLL_SECONDS = 0.1  # another process writes the file, so there is nothing to await
PROMPT = "a red house and a tree at night"


def demo(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")] = PROMPT,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the image; default: out/.")] = None,
) -> None:
    """Start everything, render one prompt, show the events of the job, stop everything.

    Uses the stack that runs in this folder if there is one, and leaves it running.

    Example: dreamforge demo "three yellow stars on a blue background"
    """
    run(_demo(from_environment(), prompt, output))


async def _demo(given: CliSettings, prompt: str, output: Path | None) -> None:
    started = clock.monotonic_seconds()
    async with _stack(given) as settings, GatewayClient(settings) as gateway:
        accepted = await gateway.submit({"prompt": prompt})
        job_id = accepted["job_id"]
        out.print(Text.assemble("\n", ("rendering", "bold"), f' "{printable(prompt)}"'))
        view, paths = await watch_and_save(gateway, job_id, output or settings.output_dir, quiet=False)
        async with connect_bus(settings) as bus:
            out.print(Text.assemble("\n", ("its events", "bold"), ", as the log has them"))
            out.print(event_table(event_lines(await events_of_job(bus, job_id))))
        raise_unless_succeeded(job_id, view)
    took = clock.monotonic_seconds() - started
    text = f" in {took:.1f} s; the image is {printable(str(paths[0]))}"
    out.print(Text.assemble("\n", ("done", "bold green"), text), soft_wrap=True)


@asynccontextmanager
async def _stack(given: CliSettings) -> AsyncIterator[CliSettings]:
    """The settings of the stack that runs in this folder, or of a new one that stops after the demo."""
    if (running := read_record(given.state_dir)) is not None:
        err.print(f"using the running stack of this folder, process {running.pid}", style="dim")
        yield with_running_stack(given, await _when_ready(running, given.state_dir))
        return
    require_local_parts()
    from dreamforge.cli.stack.local import LocalStack

    err.print("starting NATS, Postgres, S3 and the services ...", style="dim")
    options = stack_options(port=0)
    require_valid(runner_renderer=options.renderer)
    async with LocalStack(given, options, on_event=_print_event) as stack:
        record = stack.record()
        out.print(stack_table(record))
        yield with_running_stack(given, record)
        err.print("stopping everything ...", style="dim")


async def _when_ready(record: StackRecord, state_dir: Path) -> StackRecord:
    """The record of a stack that another process starts, once it is ready."""
    while not record.ready:
        await asyncio.sleep(POLL_SECONDS)
        if (found := read_record(state_dir)) is None:
            raise CommandError(f"the stack that process {record.pid} was starting has ended")
        record = found
    return record


def _print_event(name: str, text: str) -> None:
    if name != "stack":
        err.print(f"{name} {text}", style="yellow", soft_wrap=True)
