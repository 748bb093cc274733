"""A job's story: its events in order, with times and in words. Pure, but for the table it makes."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from dreamforge.contracts.events import (
    ArtifactStored,
    AttemptFailed,
    CancelRequested,
    Decision,
    Event,
    JobAssigned,
    JobCancelled,
    JobFailed,
    JobRequested,
    JobStarted,
    JobSucceeded,
    JobWarned,
    MessageParked,
    ModelRegistered,
    RunnerLost,
    RunnerRegistered,
    RunnerStopped,
    StepProgressed,
)
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.readable_sizes import readable_sizes

PROMPT_CHARS = 60
# Byte counts in the reasons of decisions; smaller numbers are slots and scores. A trailing unit goes with them.


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a story. `after_seconds` counts from the first event."""

    time: str
    after_seconds: float
    event: str
    by: str
    words: str


def tell(recorded: Sequence[Recorded]) -> list[Line]:
    """The lines of some events, in the order of their times; the steps of one image become one line."""
    ordered = sorted(recorded, key=lambda each: (each.at, each.sequence))
    if not ordered:
        return []
    start = ordered[0].at
    last_steps = _last_steps(ordered)
    return [
        Line(
            f"{each.at:%H:%M:%S}.{each.at.microsecond // 1000:03}",
            (each.at - start).total_seconds(),
            each.event.TOKEN,
            service_of(each.source),
            in_words(each.event),
        )
        for each in ordered
        if not isinstance(each.event, StepProgressed) or last_steps[_image(each.event)] is each
    ]


def _image(step: StepProgressed) -> tuple[int, int]:
    return step.attempt, step.image_index


def _last_steps(ordered: Sequence[Recorded]) -> dict[tuple[int, int], Recorded]:
    return {_image(each.event): each for each in ordered if isinstance(each.event, StepProgressed)}


def service_of(source: str) -> str:
    """Who appended an event.

    >>> service_of("/dreamforge/scheduler/0193")
    'scheduler'
    """
    parts = source.split("/")
    return parts[2] if len(parts) > 2 else source


def in_words(event: Event) -> str:
    """What an event says, on one line."""
    match event:
        case JobRequested():
            asked = event.request
            size = f"{asked.width_px}x{asked.height_px}, {asked.steps} steps, seed {asked.seed}"
            return f'"{_short(asked.prompt)}" by {asked.model_id}/{asked.preset}: {size}'
        case JobAssigned():
            return f"attempt {event.attempt} to {event.runner_id}: {_why(event.decision, event.runner_id)}"
        case JobStarted():
            return f"attempt {event.attempt} on {event.runner_id}"
        case StepProgressed(loading=str() as model_id):
            return f"loading {model_id}"
        case StepProgressed():
            image = f"image {event.image_index + 1} of {event.images}, " if event.images > 1 else ""
            return f"{image}step {event.step} of {event.steps}, {event.elapsed_seconds:.2f} s so far"
        case ArtifactStored():
            size = f"{event.width_px}x{event.height_px}, {event.size_bytes} bytes"
            return f"image {event.index + 1}: {size}, sha256 {event.sha256[:12]}"
        case AttemptFailed():
            again = "no further attempt" if event.retry_at is None else f"again at {event.retry_at:%H:%M:%S}"
            return f"attempt {event.attempt}, {event.reason}: {event.message} ({again})"
        case JobSucceeded():
            return f"{_count(len(event.artifacts), 'picture')}, {event.render_seconds:.2f} s of rendering"
        case JobFailed():
            return f"{event.reason}: {event.message}"
        case JobWarned():
            return warning_of(event)
        case CancelRequested():
            return f"by {event.requested_by}"
        case JobCancelled():
            return f"while {event.stage}"
    return _in_words_of_the_fleet(event)


def warning_of(event: JobWarned) -> str:
    """A warning for people, with the picture that it is about."""
    return event.message if event.image_index is None else f"image {event.image_index + 1}: {event.message}"


def _in_words_of_the_fleet(event: Event) -> str:
    match event:
        case RunnerRegistered():
            models = ", ".join(event.model_ids) or "no model"
            return f"{event.renderer} on {event.device.name}, {_count(event.slots, 'slot')}, {models}"
        case RunnerStopped():
            return event.reason
        case RunnerLost():
            return f"silent for {event.silent_seconds:.1f} s"
        case ModelRegistered():
            return f"{event.descriptor.family}: {event.descriptor.title}"
        case MessageParked():
            return f"{event.stream} {event.sequence} on {event.subject}: {event.reason}"
    return event.model_dump_json()


def _why(decision: Decision, runner_id: str) -> str:
    chosen = next((each for each in decision.candidates if each.runner_id == runner_id), None)
    return readable_sizes(", ".join(chosen.reasons)) if chosen else f"waited {decision.waited_seconds:.1f} s"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= PROMPT_CHARS else line[: PROMPT_CHARS - 1] + "…"


STORY_COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "attempt-failed": "yellow",
    "cancelled": "yellow",
    "warned": "yellow",
}


def story_table(lines: Sequence[Line]) -> Table:
    """The story for people."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("time", no_wrap=True)
    table.add_column("after", justify="right", no_wrap=True)
    table.add_column("event", no_wrap=True)
    table.add_column("by", style="cyan", no_wrap=True)
    table.add_column("what", overflow="fold")
    for line in lines:
        event = f"[{STORY_COLOURS[line.event]}]{line.event}[/]" if line.event in STORY_COLOURS else line.event
        table.add_row(line.time, f"{line.after_seconds:.3f} s", event, line.by, line.words.replace("[", r"\["))
    return table
