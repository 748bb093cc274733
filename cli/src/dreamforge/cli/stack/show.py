"""Prints a local stack: the table of its processes, and log lines as they arrive."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dreamforge.cli.stack.log_lines import LogLine, colour_of, parse_line, show_line
from dreamforge.cli.stack_record import StackRecord
from dreamforge.runtime import clock


def stack_table(record: StackRecord) -> Table:
    """Name, address, pid and log of each process."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("process", "address", "pid", "log"):
        table.add_column(column, justify="right" if column == "pid" else "left", no_wrap=True)
    for process in record.processes:
        address = f"http://{process.address}" if process.name == "gateway" else process.address
        table.add_row(process.name, address, str(process.pid), _short(process.log))
    return table


def _short(path: Path) -> str:
    """A path relative to the current folder, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


class LivePrinter:
    """Prints events and log lines of services as they arrive, each service in its colour."""

    def __init__(self, console: Console, services: tuple[str, ...]) -> None:
        self._console = console
        self._services = services

    def print_output(self, service: str, raw: str) -> None:
        """Print a line that a service wrote."""
        self._print(service, parse_line(raw))

    def print_event(self, service: str, text: str) -> None:
        """Print what happened to a server or service."""
        restarts = "restarting" in text
        self._print(service, LogLine(text, "WARNING" if restarts else "INFO", f"{clock.now():%H:%M:%S}"))

    def _print(self, service: str, line: LogLine) -> None:
        text: Text = show_line(service, line, colour_of(service, self._services))
        self._console.print(text, soft_wrap=True)
