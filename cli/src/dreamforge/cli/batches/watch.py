"""Follows a batch to the end of all its jobs: progress on stderr, each job's images saved when it has ended."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.console import emit_line, err, out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs.images import ImageSaver
from dreamforge.cli.jobs.progress import JobView, fold
from dreamforge.cli.next_command import next_command
from dreamforge.client.events import event_of
from dreamforge.contracts.events import Event, JobRequested
from dreamforge.contracts.jobs.course import Status


@dataclass(slots=True)
class BatchView:
    """The jobs of a batch as far as their events have arrived, by id, and what each of them was given."""

    jobs: int
    views: dict[str, JobView] = field(default_factory=dict)
    chosen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def fold(self, job_id: str, event: Event) -> JobView:
        """One more event of a job; the view of that job."""
        if isinstance(event, JobRequested) and event.batch is not None:
            self.chosen[job_id] = event.batch.chosen
        view = self.views[job_id] = fold(self.views.get(job_id, JobView()), event)
        return view

    @property
    def ended(self) -> list[JobView]:
        """The jobs that have ended."""
        return [view for view in self.views.values() if view.terminal]

    @property
    def succeeded(self) -> int:
        """How many have succeeded."""
        return sum(view.status is Status.SUCCEEDED for view in self.ended)

    @property
    def steps(self) -> tuple[int, int]:
        """Steps that are done, and all of them; a job that has ended needs no further ones."""
        done = sum(view.steps_done for view in self.views.values())
        left = sum(view.steps_all - view.steps_done for view in self.views.values() if not view.terminal)
        return done, done + left


def chosen_text(chosen: dict[str, Any]) -> str:
    """What a job was given, on one line.

    >>> chosen_text({"prompt": "a fox", "steps": 10})
    'a fox, steps 10'
    """
    texts = [" ".join(str(chosen["prompt"]).split())] if "prompt" in chosen else []
    return ", ".join(texts + [f"{name} {value}" for name, value in chosen.items() if name != "prompt"])


class Display(Protocol):
    """Shows the progress of a batch."""

    def show(self, batch: BatchView, job_id: str, view: JobView, /) -> None:
        """Show the batch after one more event of a job."""


class LinesDisplay:
    """A line for each job that has ended."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: set[str] = set()

    def show(self, batch: BatchView, job_id: str, view: JobView, /) -> None:
        if view.terminal and job_id not in self._shown:
            self._shown.add(job_id)
            count = f"{len(batch.ended)}/{batch.jobs}"
            text = f"{count:>7}  {view.status:<9}  {chosen_text(batch.chosen.get(job_id, {}))}"
            self._console.print(text, soft_wrap=True)


class BarDisplay(LinesDisplay):
    """The same above a live bar of all steps."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress.console)
        self._progress = progress
        self._task = progress.add_task("batch", total=None, text="")

    def show(self, batch: BatchView, job_id: str, view: JobView, /) -> None:
        super().show(batch, job_id, view)
        done, steps = batch.steps
        running = sum(each.status is Status.RUNNING for each in batch.views.values())
        text = f"{len(batch.ended)} of {batch.jobs} jobs, {running} running"
        self._progress.update(self._task, total=steps or None, completed=done, text=text)


@contextmanager
def display_on(console: Console) -> Iterator[Display]:
    """The bar on a terminal, lines elsewhere."""
    if not console.is_terminal:
        yield LinesDisplay(console)
        return
    columns = (
        BarColumn(bar_width=32, complete_style="cyan", finished_style="green"),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        yield BarDisplay(progress)


async def watch_batch(gateway: GatewayClient, batch_id: str, folder: Path | None, *, as_json: bool) -> list[Path]:
    """Follow a batch to its end; its images are saved into `folder`, if there is one. The files.

    Errors: CommandError unless all jobs have succeeded.
    """
    jobs = int((await gateway.read(f"/v1/batches/{batch_id}"))["jobs"])
    batch, paths = BatchView(jobs), []
    try:
        with display_on(err) as display:
            async for message in gateway.batch_events(batch_id, jobs):
                if as_json and folder is None:
                    emit_line({"id": message.id, "event": message.event, "data": json.loads(message.data)})
                if (event := event_of(message)) is None:
                    continue
                job_id = str(json.loads(message.data)["job_id"])
                view = batch.fold(job_id, event)
                if not as_json:
                    display.show(batch, job_id, view)
                if view.terminal and view.images_stored and folder is not None:
                    paths += await ImageSaver(gateway, job_id, folder).save()
    except asyncio.CancelledError:
        command = next_command(f"batches watch {batch_id}")
        err.print(f"the batch continues: {command} (or batches cancel)", soft_wrap=True)
        raise
    if not as_json:
        for path in paths:
            out.print(str(path), soft_wrap=True)
    if batch.succeeded < jobs:
        hint = f"{next_command(f'batches show {batch_id}')} says what became of each"
        what = f"{batch.succeeded} of {jobs} jobs of the batch succeeded"
        raise CommandError(what, Exit.JOB_ENDED, {"batch": batch_id}, hint)
    return paths
