"""The job aggregate as it is folded: `evolve(state, event) -> state`. Pure: no clock, no chance, no I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dreamforge.contracts.events import (
    JOB_EVENTS,
    ArtifactStored,
    AttemptFailed,
    Event,
    JobAssigned,
    JobEvent,
    JobRequested,
    JobWarned,
)
from dreamforge.contracts.jobs.course import Fields, JobCourse, advance
from dreamforge.contracts.request.render_request import Deadlines, RenderRequest


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored image of one attempt; it is visible only once its job has succeeded."""

    index: int
    sha256: str
    object_key: str


@dataclass(frozen=True, slots=True)
class JobState(JobCourse):
    """One job, folded: its course, what it asks for, and what its current attempt has stored."""

    tenant: str = ""
    request: RenderRequest | None = None
    fingerprint: str | None = None
    deadlines: Deadlines | None = None
    artifacts: tuple[Artifact, ...] = ()
    warnings: tuple[JobWarned, ...] = ()
    """Of the current attempt, or of the one that ended the job."""


INITIAL = JobState()


class UnknownEvent(TypeError):
    """An event that the job aggregate does not know: never ignored, since that would fork history."""


def evolve(state: JobState, event: Event) -> JobState:
    """The state after one more fact. Terminal states absorb: what comes after changes nothing.

    Errors: UnknownEvent for an event of another aggregate.
    """
    if not isinstance(event, JobEvent) or type(event) not in _FACTS:
        raise UnknownEvent(type(event).__name__)
    if state.terminal:
        return state
    own = _OWN.get(type(event))
    return advance(state, event, **own(state, event)) if own is not None else advance(state, event)


def _requested(_: JobState, event: JobRequested) -> Fields:
    return {
        "tenant": event.tenant,
        "request": event.request,
        "fingerprint": event.fingerprint,
        "deadlines": event.deadlines,
    }


_FACTS = frozenset(JOB_EVENTS)
# Any: each function takes the event class it stands under.
_OWN: dict[type[JobEvent], Callable[[JobState, Any], Fields]] = {
    JobRequested: _requested,
    JobAssigned: lambda *_: {"artifacts": (), "warnings": ()},
    ArtifactStored: lambda state, event: {
        "artifacts": (*state.artifacts, Artifact(event.index, event.sha256, event.object_key))
    },
    AttemptFailed: lambda *_: {"artifacts": ()},
    JobWarned: lambda state, event: {"warnings": (*state.warnings, event)},
}
