"""Watches a job live: folds its events into a view and shows the view on a bar, as lines or as JSON."""

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from httpx_sse import ServerSentEvent
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.console import emit_line
from dreamforge.cli.jobs.progress import JobView, fold
from dreamforge.client.events import event_of
from dreamforge.contracts.events import ArtifactStored, JobWarned

# Without a terminal, a line for every fifth of the steps is enough to see progress.
PLAIN_LINES = 5


class Display(Protocol):
    """Shows the progress of a job."""

    def show(self, message: ServerSentEvent, view: JobView, /) -> None:
        """Show the state of the job after one more event."""


async def watch(
    gateway: GatewayClient,
    job_id: str,
    display: Display,
    on_image: Callable[[], Awaitable[object]] | None = None,
) -> JobView:
    """Follow a job to its end; its last view. `on_image` is awaited after each image that is finished before."""
    view = JobView()
    async for message in gateway.events(job_id):
        if (event := event_of(message)) is not None:
            view = fold(view, event)
            display.show(message, view)
            if on_image is not None and isinstance(event, ArtifactStored) and len(view.images_stored) < view.images:
                await on_image()
    return view


class JsonDisplay:
    """Each event as received, one a line."""

    def show(self, message: ServerSentEvent, _view: JobView, /) -> None:
        emit_line({"id": message.id, "event": message.event, "data": json.loads(message.data)})


class NoDisplay:
    """Shows nothing: for callers that need the last view only."""

    def show(self, _message: ServerSentEvent, _view: JobView, /) -> None:
        return None


def show_warning(console: Console, message: ServerSentEvent, view: JobView) -> None:
    """Print a warning as a line of its own, because the bar disappears at the end."""
    if message.event == JobWarned.TOKEN and view.warnings:
        console.print(f"warning: {view.warnings[-1]}", style="yellow", soft_wrap=True)


class PlainDisplay:
    """Lines, for logs and pipes: every change of status, and a few steps."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ("", "", 0)

    def show(self, message: ServerSentEvent, view: JobView, /) -> None:
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

    def show(self, message: ServerSentEvent, view: JobView, /) -> None:
        show_warning(self._progress.console, message, view)
        self._progress.update(
            self._task,
            description=view.status,
            total=view.steps_all or None,
            completed=view.steps_done,
            view=view,
        )


class SpeedColumn(ProgressColumn):
    """Step, speed and remaining time as the runner measured them, not as events arrived here."""

    max_refresh = None

    def render(self, task: Task) -> Text:
        return Text(speed_of(task.fields["view"]))


@contextmanager
def display_on(console: Console) -> Iterator[Display]:
    """The bar on a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield PlainDisplay(console)
        return
    columns = (
        TextColumn("{task.description:<9}", style="bold", markup=False),
        BarColumn(bar_width=32, complete_style="cyan", finished_style="green"),
        SpeedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield BarDisplay(progress)


def speed_of(view: JobView) -> str:
    """Step, speed and remaining time.

    >>> speed_of(JobView(steps_all=20, steps_done=5, elapsed_seconds=0.5, eta_seconds=1.5))
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
    parts = [f"{view.status:<9}", speed_of(view), view.message]
    return "  ".join(part for part in parts if part.strip())


def duration(seconds: float) -> str:
    """A remaining time, with fewer digits the longer it is.

    >>> duration(1.54), duration(75), duration(4000)
    ('1.5 s', '1:15', '1:06:40')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
