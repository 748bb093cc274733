"""What a person sees of a local stack: its table, and its lines as they come."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dreamforge.cli.stack.lines import Line, colour_of, parse_line, show_line
from dreamforge.cli.stack.record import StackRecord
from dreamforge.runtime import clock


def stack_table(record: StackRecord) -> Table:
    """What runs where: one row a process."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("process", "address", "pid", "log"):
        table.add_column(column, justify="right" if column == "pid" else "left", no_wrap=True)
    for process in record.processes:
        address = f"http://{process.address}" if process.name == "gateway" else process.address
        table.add_row(process.name, address, str(process.pid), _short(process.log))
    return table


def _short(path: Path) -> str:
    """A path as seen from here, where that is shorter."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


class LivePrinter:
    """Prints what services say as it comes, each in its colour."""

    def __init__(self, console: Console, services: tuple[str, ...]) -> None:
        self._console = console
        self._services = services

    def heard(self, service: str, raw: str) -> None:
        """A line that a service printed."""
        self._print(service, parse_line(raw))

    def said(self, service: str, text: str) -> None:
        """Something that happened to a service."""
        trouble = "starting it again" in text
        self._print(service, Line(text, "WARNING" if trouble else "INFO", f"{clock.now():%H:%M:%S}"))

    def _print(self, service: str, line: Line) -> None:
        text: Text = show_line(service, line, colour_of(service, self._services))
        self._console.print(text, soft_wrap=True)
