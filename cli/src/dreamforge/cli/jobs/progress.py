"""What a client knows of a job from its events: a pure fold, as the services fold theirs."""

from dataclasses import dataclass, replace

from dreamforge.cli.jobs.story import warning_of
from dreamforge.contracts.events import (
    ArtifactStored,
    AttemptFailed,
    CancelRequested,
    Event,
    JobAssigned,
    JobCancelled,
    JobFailed,
    JobRequested,
    JobStarted,
    JobSucceeded,
    JobWarned,
    StepProgressed,
)

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class JobView:
    """One job as far as its events have arrived. `images_stored` are the indexes of this attempt's pictures.

    `warnings` are its warnings, in words; `loading` is the model that is being read before the first step.
    """

    status: str = "unknown"
    attempt: int = 0
    runner_id: str = ""
    images: int = 1
    steps_all: int = 0
    steps_done: int = 0
    elapsed_seconds: float = 0.0
    eta_seconds: float | None = None
    images_stored: tuple[int, ...] = ()
    message: str = ""
    loading: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def terminal(self) -> bool:
        """True once nothing will follow."""
        return self.status in TERMINAL

    @property
    def steps_per_second(self) -> float | None:
        """The mean pace of this attempt; None before its first step."""
        return self.steps_done / self.elapsed_seconds if self.steps_done and self.elapsed_seconds else None


def fold(view: JobView, event: Event) -> JobView:
    """The view after one more event; a step of an earlier attempt, or one that comes twice, changes nothing."""
    match event:
        case JobRequested():
            steps_all = event.request.steps * event.request.images
            return replace(view, status="queued", images=event.request.images, steps_all=steps_all)
        case JobAssigned():
            fresh = JobView("assigned", event.attempt, event.runner_id, view.images, view.steps_all)
            return replace(fresh, message=view.message)
        case JobStarted():
            return replace(view, status="running")
        case StepProgressed():
            return _step(view, event)
        case ArtifactStored():
            return replace(view, images_stored=(*view.images_stored, event.index))
        case JobWarned():
            return replace(view, warnings=(*view.warnings, warning_of(event)))
        case AttemptFailed():
            return replace(view, status="queued", message=f"{event.reason}: {event.message}", eta_seconds=None)
        case JobSucceeded():
            return replace(view, status="succeeded", steps_done=view.steps_all, eta_seconds=0.0, message="")
        case JobFailed():
            return replace(view, status="failed", eta_seconds=None, message=f"{event.reason}: {event.message}")
        case CancelRequested():
            return replace(view, message="cancel requested")
        case JobCancelled():
            return replace(view, status="cancelled", eta_seconds=None, message=f"while {event.stage}")
    return view


def _step(view: JobView, event: StepProgressed) -> JobView:
    done = event.image_index * event.steps + event.step
    if event.loading and event.attempt == view.attempt and not view.terminal:
        return replace(view, status="running", loading=event.loading)
    if event.attempt != view.attempt or done <= view.steps_done or view.terminal:
        return view
    return replace(
        view,
        status="running",
        loading="",
        steps_all=event.steps * event.images,
        steps_done=done,
        elapsed_seconds=event.elapsed_seconds,
        eta_seconds=event.eta_seconds,
    )
