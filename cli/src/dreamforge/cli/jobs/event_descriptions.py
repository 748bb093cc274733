"""The events of a job as lines of text: in order, with times and descriptions. Pure, except for the table."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from dreamforge.contracts.events import (
    ArtifactStored,
    AttemptFailed,
    CancelRequested,
    Decision,
    Event,
    JobArchived,
    JobAssigned,
    JobCancelled,
    JobFailed,
    JobHeld,
    JobPriorityChanged,
    JobReleased,
    JobRequested,
    JobStarted,
    JobSucceeded,
    JobWarned,
    StepProgressed,
)
from dreamforge.contracts.installation_events import (
    MessageParked,
    ModelRegistered,
    RunnerLost,
    RunnerRegistered,
    RunnerStopped,
)
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.readable_sizes import readable_sizes

PROMPT_CHARS = 60


@dataclass(frozen=True, slots=True)
class EventLine:
    """One event, described. `after_seconds` counts from the first event; `by` is the service that appended it."""

    time: str
    after_seconds: float
    event: str
    by: str
    description: str


def event_lines(recorded: Sequence[Recorded]) -> list[EventLine]:
    """The lines of some events, in the order of their times; the steps of one image become one line."""
    ordered = sorted(recorded, key=lambda each: (each.at, each.sequence))
    if not ordered:
        return []
    start = ordered[0].at
    last_steps = _last_steps(ordered)
    return [
        EventLine(
            f"{each.at:%H:%M:%S}.{each.at.microsecond // 1000:03}",
            (each.at - start).total_seconds(),
            each.event.TOKEN,
            service_of(each.source),
            describe_event(each.event),
        )
        for each in ordered
        if not isinstance(each.event, StepProgressed) or last_steps[_image(each.event)] is each
    ]


def _image(step: StepProgressed) -> tuple[int, int]:
    return step.attempt, step.image_index


def _last_steps(ordered: Sequence[Recorded]) -> dict[tuple[int, int], Recorded]:
    return {_image(each.event): each for each in ordered if isinstance(each.event, StepProgressed)}


def service_of(source: str) -> str:
    """The service that appended an event.

    >>> service_of("/dreamforge/scheduler/0193")
    'scheduler'
    """
    parts = source.split("/")
    return parts[2] if len(parts) > 2 else source


def describe_event(event: Event) -> str:
    """The content of an event, on one line."""
    match event:
        case JobRequested():
            request = event.request
            size = f"{request.width_px}x{request.height_px}, {request.steps} steps, seed {request.seed}"
            return f'"{_short(request.prompt)}" by {request.model_id}/{request.preset}: {size}'
        case JobAssigned():
            return f"attempt {event.attempt} to {event.runner_id}: {_why(event.decision, event.runner_id)}"
        case JobStarted():
            return f"attempt {event.attempt} on {event.runner_id}"
        case StepProgressed(loading=str() as model_id):
            return f"loading {model_id}"
        case StepProgressed():
            first, last = event.image_index + 1, event.image_index + event.together
            which = f"image {first}" if first == last else f"images {first} to {last}"
            image = f"{which} of {event.images}, " if event.images > 1 else ""
            return f"{image}step {event.step} of {event.steps}, {event.elapsed_seconds:.2f} s so far"
        case ArtifactStored():
            size = f"{event.width_px}x{event.height_px}, {event.size_bytes} bytes"
            return f"image {event.index + 1}: {size}, sha256 {event.sha256[:12]}"
        case AttemptFailed():
            retry = "no further attempt" if event.retry_at is None else f"retry at {event.retry_at:%H:%M:%S}"
            return f"attempt {event.attempt}, {event.reason}: {event.message} ({retry})"
        case JobSucceeded():
            return f"{_count(len(event.artifacts), 'image')}, {event.render_seconds:.2f} s of rendering"
        case JobFailed():
            return f"{event.reason}: {event.message}"
        case JobWarned():
            return describe_warning(event)
        case JobPriorityChanged():
            return f"to {event.priority} by {event.requested_by}"
        case CancelRequested() | JobHeld() | JobReleased():
            return f"by {event.requested_by}"
        case JobCancelled():
            return f"while {event.stage}"
        case JobArchived():
            return f"{_count(event.events, 'event')} in {event.object_key}"
    return _describe_fleet_event(event)


def describe_warning(event: JobWarned) -> str:
    """A warning as text, with the image that it concerns."""
    return event.message if event.image_index is None else f"image {event.image_index + 1}: {event.message}"


def _describe_fleet_event(event: Event) -> str:
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


EVENT_COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "attempt-failed": "yellow",
    "cancelled": "yellow",
    "warned": "yellow",
}


def event_table(lines: Sequence[EventLine]) -> Table:
    """The lines as a table for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("time", no_wrap=True)
    table.add_column("after", justify="right", no_wrap=True)
    table.add_column("event", no_wrap=True)
    table.add_column("by", style="cyan", no_wrap=True)
    table.add_column("what", overflow="fold")
    for line in lines:
        event = Text(line.event, style=EVENT_COLOURS.get(line.event, ""))
        table.add_row(line.time, f"{line.after_seconds:.3f} s", event, line.by, line.description)
    return table
