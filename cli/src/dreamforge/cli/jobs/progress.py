"""What a client knows of a job from its events. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dreamforge.cli.jobs.event_descriptions import describe_warning
from dreamforge.contracts.events import (
    ArtifactStored,
    AttemptFailed,
    CancelRequested,
    Event,
    JobAssigned,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRequested,
    JobSucceeded,
    JobWarned,
    StepProgressed,
)
from dreamforge.contracts.jobs.course import Fields, JobCourse, Status, advance
from dreamforge.contracts.jobs.refusal import refusal


@dataclass(frozen=True, slots=True)
class JobView(JobCourse):
    """One job as far as its events have arrived. `images_stored` are the indexes of the finished images.

    `steps_kept` are the steps of images that earlier attempts have finished; `warnings` are texts for people; `loading`
    is the model that the runner reads before the first step.
    """

    images: int = 1
    steps_all: int = 0
    steps_done: int = 0
    steps_kept: int = 0
    elapsed_seconds: float = 0.0
    eta_seconds: float | None = None
    images_stored: tuple[int, ...] = ()
    message: str = ""
    loading: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def steps_per_second(self) -> float | None:
        """The mean speed of this attempt; None before its first step."""
        steps = self.steps_done - self.steps_kept
        return steps / self.elapsed_seconds if steps > 0 and self.elapsed_seconds else None


def fold(view: JobView, event: Event) -> JobView:
    """The view after one more event; a step of an earlier attempt, or a repeated one, changes nothing."""
    if isinstance(event, StepProgressed):
        return _step(view, event)
    if not isinstance(event, JobEvent) or refusal(view, event) is not None:
        return view
    fields = _FIELDS.get(type(event))
    return advance(view, event, **fields(view, event)) if fields is not None else advance(view, event)


def _requested(_: JobView, event: JobRequested) -> Fields:
    return {"images": event.request.images, "steps_all": event.request.steps * event.request.images}


def _assigned(view: JobView, _: JobAssigned) -> Fields:
    initial = JobView()
    names = ("steps_done", "elapsed_seconds", "eta_seconds", "loading", "warnings")
    kept = len(view.images_stored) * view.steps_all // view.images
    return {name: getattr(initial, name) for name in names} | {"steps_kept": kept}


def _stored(view: JobView, event: ArtifactStored) -> Fields:
    return {"images_stored": tuple(sorted({*view.images_stored, event.index}))}


def _failed(_: JobView, event: AttemptFailed | JobFailed) -> Fields:
    return {"message": f"{event.reason}: {event.message}", "eta_seconds": None}


# Any: each function takes the event class of its key.
_FIELDS: dict[type[JobEvent], Callable[[JobView, Any], Fields]] = {
    JobRequested: _requested,
    JobAssigned: _assigned,
    ArtifactStored: _stored,
    JobWarned: lambda view, event: {"warnings": (*view.warnings, describe_warning(event))},
    AttemptFailed: _failed,
    JobSucceeded: lambda view, _: {"steps_done": view.steps_all, "eta_seconds": 0.0, "message": ""},
    JobFailed: _failed,
    CancelRequested: lambda *_: {"message": "cancel requested"},
    JobCancelled: lambda _, event: {"message": f"while {event.stage}", "eta_seconds": None},
}


def _step(view: JobView, event: StepProgressed) -> JobView:
    done = event.image_index * event.steps + event.step * event.together
    if event.loading and event.attempt == view.attempt and not view.terminal:
        return replace(view, status=Status.RUNNING, loading=event.loading)
    if event.attempt != view.attempt or done <= view.steps_done or view.terminal:
        return view
    return replace(
        view,
        status=Status.RUNNING,
        loading="",
        steps_all=event.steps * event.images,
        steps_done=done,
        elapsed_seconds=event.elapsed_seconds,
        eta_seconds=event.eta_seconds,
    )
