"""`dreamforge down`, `dreamforge status` and `dreamforge logs`: a stack that runs in another terminal."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import said
from dreamforge.cli.stack.lines import colour_of, parse_line, show_line
from dreamforge.cli.stack.record import StackRecord, read_record
from dreamforge.cli.stack.show import stack_table

# A stop in order takes about 2 s; a runner may take its drain time besides.
DOWN_SECONDS = 60.0
POLL_SECONDS = 0.1  # a foreign process or a growing file has no event that we could await everywhere


def down() -> None:
    """Stop the stack that runs in this folder, in order, and see it gone.

    Exit code 0 also when none runs: the wish is fulfilled.
    """
    record = read_record(said().state_dir)
    if record is None:
        err.print("no stack runs in this folder")
        return
    run(_stop(record))
    out.print(f"stopped process {record.pid}; the data stays in {record.folder}")


async def _stop(record: StackRecord) -> None:
    with suppress(ProcessLookupError):
        os.kill(record.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(DOWN_SECONDS):
            while record.lives:  # noqa: ASYNC110 - another's child
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        hint = f"kill -9 {record.pid} ends it at once, and everything it started with it"
        raise CommandError(f"process {record.pid} did not end in {DOWN_SECONDS:g} s", hint=hint) from None


def status(json: Json = False) -> None:
    """Show what runs in this folder: every process, its address and its pid.

    With --json, the content of .forge/stack.json without its credentials.
    """
    record = running()
    if json:
        emit(record.model_dump(mode="json", exclude={"settings", "identity"}))
    else:
        out.print(stack_table(record))
        if not record.ready:
            out.print("still starting", style="yellow")


def env() -> None:
    """Print the FORGE_* variables that reach the running stack, credentials included, for a shell.

    Example: eval "$(dreamforge env)" && nats --server "$FORGE_NATS_URL" stream ls
    """
    record = running()
    for name, value in {**record.settings, "FORGE_GATEWAY_URL": record.gateway_url}.items():
        out.file.write(f"export {name}='{value}'\n")


def running() -> StackRecord:
    """The stack of this folder. Errors: CommandError when none runs."""
    state_dir = said().state_dir
    record = read_record(state_dir)
    if record is None:
        raise CommandError(
            "no stack runs in this folder", Exit.AWAY, {"folder": str(state_dir.absolute())}, "start it: dreamforge up"
        )
    return record


def logs(
    services: Annotated[list[str] | None, typer.Argument(help="Which services; all without.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many old lines of each.")] = 20,
) -> None:
    """Show what services logged (.forge/logs), each in its colour.

    Examples:

      dreamforge logs
      dreamforge logs --follow gateway scheduler
    """
    folder = said().state_dir / "logs"
    known = tuple(sorted(path.stem for path in folder.glob("*.log")))
    chosen = tuple(services or known)
    if unknown := [name for name in chosen if name not in known]:
        raise CommandError(f"no log of {', '.join(unknown)}", Exit.REFUSED, {"there are": ", ".join(known) or "none"})
    tails = [Tail(folder / f"{name}.log", lines) for name in chosen]
    run(_show(tails, known, follow=follow))


async def _show(tails: "list[Tail]", known: tuple[str, ...], *, follow: bool) -> None:
    while True:
        found = [(parse_line(raw), tail.service) for tail in tails for raw in tail.new_lines()]
        for line, service in sorted(found, key=lambda each: each[0].time):
            out.print(show_line(service, line, colour_of(service, known)), soft_wrap=True)
        out.file.flush()
        if not follow:
            return
        await asyncio.sleep(POLL_SECONDS)


class Tail:
    """A log file from its last lines on; starts over when the file was set aside for a new one."""

    def __init__(self, path: Path, last: int) -> None:
        self.service = path.stem
        self._path = path
        self._last: int | None = last
        self._offset = 0
        self._inode = 0

    def new_lines(self) -> list[str]:
        """Complete lines since the last call; the first call gives the last few only."""
        with self._path.open("rb") as file:
            if (inode := os.fstat(file.fileno()).st_ino) != self._inode:
                self._inode, self._offset = inode, 0
            file.seek(self._offset)
            complete, _, _ = file.read().rpartition(b"\n")
        self._offset += len(complete) + 1 if complete else 0
        lines = complete.decode(errors="replace").splitlines()
        if self._last is not None:
            lines, self._last = lines[len(lines) - min(self._last, len(lines)) :], None
        return lines
