"""`dreamforge logs`: prints and follows the log files of services."""

import asyncio
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from dreamforge.cli.console import Json, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import from_environment
from dreamforge.cli.stack.log_lines import colour_of, parse_line, show_line, time_of

POLL_SECONDS = 0.1  # a growing file has no event that can be awaited on every system


def logs(
    services: Annotated[list[str] | None, typer.Argument(help="Names of services; default: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Number of past lines of each service.")] = 20,
    job: Annotated[str, typer.Option("--job", help="Only what names this job, of all that is kept.")] = "",
    json: Json = False,
) -> None:
    """Show the logs of services (.forge/logs), each in its colour.

    With --job, what every service has logged of one job, in the order of time; with --json, one JSON object a line.

    Examples:

      dreamforge logs
      dreamforge logs --follow gateway scheduler
      dreamforge logs --job 01a2b3c4-... --json
    """
    folder = from_environment().state_dir / "logs"
    known = tuple(sorted(path.stem for path in folder.glob("*.log")))
    chosen = tuple(services or known)
    if unknown := [name for name in chosen if name not in known]:
        raise CommandError(f"no log of {', '.join(unknown)}", Exit.REFUSED, {"known logs": ", ".join(known) or "none"})
    if job or json:
        _print_kept([folder / f"{name}.log" for name in chosen], job, as_json=json)
        return
    tails = [LogTail(folder / f"{name}.log", lines) for name in chosen]
    run(_show(tails, known, follow=follow))


def _print_kept(paths: list[Path], job: str, *, as_json: bool) -> None:
    """All kept lines that have `job` in them, oldest first; lines that are no JSON have no time and are left out."""
    known = tuple(sorted(path.stem for path in paths))
    for service, raw in sorted(lines_naming(paths, job), key=lambda each: time_of(each[1])):
        if as_json:
            out.file.write(raw + "\n")
        else:
            out.print(show_line(service, parse_line(raw), colour_of(service, known)), soft_wrap=True)


def lines_naming(paths: Iterable[Path], text: str) -> Iterator[tuple[str, str]]:
    """Service and line of each JSON line with a text in it, files that were rotated out included."""
    for path in paths:
        for file in (path.with_name(f"{path.name}.1"), path):
            for raw in file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else ():
                if text in raw and time_of(raw):
                    yield path.stem, raw


async def _show(tails: "list[LogTail]", known: tuple[str, ...], *, follow: bool) -> None:
    while True:
        found = [(parse_line(raw), tail.service) for tail in tails for raw in tail.new_lines()]
        for line, service in sorted(found, key=lambda each: each[0].time):
            out.print(show_line(service, line, colour_of(service, known)), soft_wrap=True)
        out.file.flush()
        if not follow:
            return
        await asyncio.sleep(POLL_SECONDS)


class LogTail:
    """Reads a log file from its last lines on; starts again with the new file after a rotation."""

    def __init__(self, path: Path, last: int) -> None:
        self.service = path.stem
        self._path = path
        self._last: int | None = last
        self._offset = 0
        self._inode = 0

    def new_lines(self) -> list[str]:
        """Complete lines since the last call; the first call returns the last few only."""
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
