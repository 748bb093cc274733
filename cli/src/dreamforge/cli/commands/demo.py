"""`dreamforge demo`: the whole of it once, from an empty folder to a picture and its story."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from dreamforge.cli.client.gateway import Gateway
from dreamforge.cli.client.log import bus_of, story_of
from dreamforge.cli.commands.generate import paint, raise_unless_succeeded
from dreamforge.cli.commands.up import require_local_parts
from dreamforge.cli.console import err, out, run
from dreamforge.cli.failure import CommandError
from dreamforge.cli.jobs.story import story_table, tell
from dreamforge.cli.settings import CliSettings, filled, said
from dreamforge.cli.stack.plan import StackOptions
from dreamforge.cli.stack.record import StackRecord, read_record
from dreamforge.cli.stack.show import stack_table
from dreamforge.runtime import clock

POLL_SECONDS = 0.1  # a file of another process has no event that we could await
PROMPT = "a red house and a tree at night"


def demo(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")] = PROMPT,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the picture; out/.")] = None,
) -> None:
    """Start everything, paint one prompt, tell its story, stop everything.

    Uses the stack that runs in this folder if there is one, and leaves it running.

    Example: dreamforge demo "three yellow stars on a blue background"
    """
    run(_demo(said(), prompt, output))


async def _demo(given: CliSettings, prompt: str, output: Path | None) -> None:
    started = clock.monotonic_seconds()
    async with _stack(given) as settings, Gateway(settings) as gateway:
        accepted = await gateway.submit({"prompt": prompt})
        job_id = accepted["job_id"]
        out.print(f'\n[bold]painting[/bold] "{prompt}"', highlight=False)
        view, paths = await paint(gateway, job_id, output or settings.output_dir, quiet=False)
        async with bus_of(settings) as bus:
            out.print("\n[bold]its story[/bold], as the log tells it")
            out.print(story_table(tell(await story_of(bus, job_id))))
        raise_unless_succeeded(job_id, view)
    took = clock.monotonic_seconds() - started
    out.print(f"\n[bold green]done[/bold green] in {took:.1f} s; the picture is in {paths[0]}", soft_wrap=True)


@asynccontextmanager
async def _stack(given: CliSettings) -> AsyncIterator[CliSettings]:
    """The settings of the stack that runs here, or of one that runs as long as the demo."""
    if (running := read_record(given.state_dir)) is not None:
        err.print(f"using the stack that runs here as process {running.pid}", style="dim")
        yield filled(given, await _when_ready(running, given.state_dir))
        return
    require_local_parts()
    from dreamforge.cli.stack.local import LocalStack

    err.print("starting NATS, Postgres, S3 and the services ...", style="dim")
    async with LocalStack(given, StackOptions(gateway_port=0), say=_trouble) as stack:
        record = stack.record()
        out.print(stack_table(record))
        yield filled(given, record)
        err.print("stopping everything ...", style="dim")


async def _when_ready(record: StackRecord, state_dir: Path) -> StackRecord:
    """The record of a stack that another process is still starting, once that is done."""
    while not record.ready:
        await asyncio.sleep(POLL_SECONDS)
        if (found := read_record(state_dir)) is None:
            raise CommandError(f"the stack that process {record.pid} was starting has ended")
        record = found
    return record


def _trouble(name: str, text: str) -> None:
    if name != "stack":
        err.print(f"{name} {text}", style="yellow", soft_wrap=True)
