"""Watching a job live: its events folded into a view, the view shown as fits whoever looks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from dreamforge.cli.client.gateway import Gateway, event_of
from dreamforge.cli.client.sse import SseMessage
from dreamforge.cli.console import emit_line
from dreamforge.cli.jobs.progress import JobView, fold
from dreamforge.contracts.events import JobWarned

# Without a terminal, a line for every fifth of the steps is enough to see that it goes on.
PLAIN_LINES = 5


class Display(Protocol):
    """Where a job's course is shown."""

    def show(self, message: SseMessage, view: JobView, /) -> None:
        """One more event has arrived, and the job looks like this now."""


async def watch(gateway: Gateway, job_id: str, display: Display) -> JobView:
    """Follow a job to its end and give its last view."""
    view = JobView()
    async for message in gateway.events(job_id):
        if (event := event_of(message)) is not None:
            view = fold(view, event)
            display.show(message, view)
    return view


class JsonDisplay:
    """Each event as it came, one a line."""

    def show(self, message: SseMessage, _view: JobView, /) -> None:
        emit_line({"id": message.id, "event": message.event, "data": json.loads(message.data)})


class Silent:
    """For whoever wants the end only."""

    def show(self, _message: SseMessage, _view: JobView, /) -> None:
        return None


def show_warning(console: Console, message: SseMessage, view: JobView) -> None:
    """A line of its own when the event is a warning: it must outlast the bar."""
    if message.event == JobWarned.TOKEN and view.warnings:
        console.print(f"warning: {view.warnings[-1]}", style="yellow", markup=False, soft_wrap=True)


class PlainDisplay:
    """Lines, for logs and pipes: every change of status, and a few steps."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ("", "", 0)

    def show(self, message: SseMessage, view: JobView, /) -> None:
        show_warning(self._console, message, view)
        now = (view.status, view.loading, view.steps_done * PLAIN_LINES // max(1, view.steps_all))
        if now != self._last:
            self._last = now
            self._console.print(line_of(view), soft_wrap=True)


class BarDisplay:
    """The live bar on a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("waiting", total=None, view=JobView())

    def show(self, message: SseMessage, view: JobView, /) -> None:
        show_warning(self._progress.console, message, view)
        self._progress.update(
            self._task,
            description=view.status,
            total=view.steps_all or None,
            completed=view.steps_done,
            view=view,
        )


class PaceColumn(ProgressColumn):
    """Step, speed and time to go, as the runner measured them: not as we happened to hear of them."""

    max_refresh = None

    def render(self, task: Task) -> Text:
        return Text(pace_of(task.fields["view"]))


@contextmanager
def display_on(console: Console) -> Iterator[Display]:
    """The bar where there is a terminal, else lines."""
    if not console.is_terminal:
        yield PlainDisplay(console)
        return
    columns = (
        TextColumn("[bold]{task.description:<9}[/]"),
        BarColumn(bar_width=32, complete_style="cyan", finished_style="green"),
        PaceColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield BarDisplay(progress)


def pace_of(view: JobView) -> str:
    """Step, speed and time to go.

    >>> pace_of(JobView("running", 1, "r", 1, 20, 5, 0.5, 1.5))
    'step 5/20  10.0 it/s  ETA 1.5 s'
    """
    if view.loading and not view.terminal:
        return f"loading {view.loading}"
    if not view.steps_all:
        return ""
    parts = [f"step {view.steps_done}/{view.steps_all}"]
    if view.steps_per_second is not None:
        parts.append(f"{view.steps_per_second:.1f} it/s")
    if view.eta_seconds is not None and not view.terminal:
        parts.append(f"ETA {duration(view.eta_seconds)}")
    return "  ".join(parts)


def line_of(view: JobView) -> str:
    """The view on one line."""
    parts = [f"{view.status:<9}", pace_of(view), view.message]
    return "  ".join(part for part in parts if part.strip())


def duration(seconds: float) -> str:
    """A time to go, as precise as anybody wants it.

    >>> duration(1.54), duration(75), duration(4000)
    ('1.5 s', '1:15', '1:06:40')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
