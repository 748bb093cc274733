"""The job aggregate, the heart of Dream Forge: `decide(state, command) -> events`, `evolve(state, event) -> state`.

Pure: no clock, no chance, no I/O. Time comes in with the command.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from dreamforge.contracts.events import (
    ArtifactStored,
    AttemptFailed,
    CancelRequested,
    Event,
    FailureReason,
    JobAssigned,
    JobCancelled,
    JobFailed,
    JobRequested,
    JobStarted,
    JobSucceeded,
    JobWarned,
)
from dreamforge.contracts.request.render_request import Deadlines, RenderRequest


class Status(StrEnum):
    """Where a job stands."""

    NONE = "none"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored picture of one attempt; it is visible only once its job has succeeded."""

    index: int
    sha256: str
    object_key: str


@dataclass(frozen=True, slots=True)
class JobState:
    """One job, folded. `attempt` counts assignments, from 1; 0 means it was never assigned."""

    status: Status = Status.NONE
    tenant: str = ""
    priority: int = 0
    request: RenderRequest | None = None
    requested_at: datetime | None = None
    attempt: int = 0
    runner_id: str = ""
    instance_id: str = ""
    retry_at: datetime | None = None
    cancel_requested: bool = False
    artifacts: tuple[Artifact, ...] = ()
    failure: FailureReason | None = None
    fingerprint: str | None = None
    deadlines: Deadlines | None = None
    started_at: datetime | None = None
    warnings: tuple[JobWarned, ...] = ()
    """Of the current attempt, or of the one that ended the job."""

    @property
    def terminal(self) -> bool:
        """True once nothing can happen to the job any more."""
        return self.status in TERMINAL


INITIAL = JobState()


class UnknownEvent(TypeError):
    """An event that the job aggregate does not know: never ignored, since that would fork history."""


def evolve(state: JobState, event: Event) -> JobState:
    """The state after one more fact. Terminal states absorb: what comes after changes nothing.

    Errors: UnknownEvent for an event of another aggregate.
    """
    if not isinstance(event, _FACTS):
        raise UnknownEvent(type(event).__name__)
    return state if state.terminal else _evolve_open(state, event)


_FACTS = (
    JobRequested,
    JobAssigned,
    JobStarted,
    ArtifactStored,
    AttemptFailed,
    JobSucceeded,
    JobFailed,
    CancelRequested,
    JobCancelled,
    JobWarned,
)


def _evolve_open(state: JobState, event: Event) -> JobState:
    match event:
        case JobRequested():
            return replace(
                state,
                status=Status.QUEUED,
                tenant=event.tenant,
                priority=event.priority,
                request=event.request,
                requested_at=event.at,
                fingerprint=event.fingerprint,
                deadlines=event.deadlines,
            )
        case JobAssigned():
            return replace(
                state,
                status=Status.ASSIGNED,
                attempt=event.attempt,
                runner_id=event.runner_id,
                instance_id=event.instance_id,
                retry_at=None,
                started_at=None,
                artifacts=(),
                warnings=(),
            )
        case JobStarted():
            return replace(state, status=Status.RUNNING, started_at=event.at)
        case ArtifactStored():
            return replace(state, artifacts=(*state.artifacts, Artifact(event.index, event.sha256, event.object_key)))
        case AttemptFailed():
            return replace(
                state,
                status=Status.QUEUED,
                runner_id="",
                instance_id="",
                retry_at=event.retry_at,
                artifacts=(),
                failure=event.reason,
            )
        case JobSucceeded():
            return replace(state, status=Status.SUCCEEDED)
        case JobFailed():
            return replace(state, status=Status.FAILED, failure=event.reason)
        case CancelRequested():
            return replace(state, cancel_requested=True)
        case JobWarned():
            return replace(state, warnings=(*state.warnings, event))
        case _:
            return replace(state, status=Status.CANCELLED)
