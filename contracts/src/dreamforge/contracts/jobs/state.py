"""The job aggregate as it is folded: `evolve(state, event) -> state`. Pure: no clock, no chance, no I/O."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import reduce
from typing import Any

from dreamforge.contracts.events import (
    ERASURE_EVENTS,
    JOB_EVENTS,
    ArtifactErased,
    ArtifactStored,
    ErasureRequested,
    ErasureUndone,
    Event,
    JobArchived,
    JobAssigned,
    JobEvent,
    JobRequested,
    JobWarned,
)
from dreamforge.contracts.jobs.course import Fields, JobCourse, Status, changed, fields_after
from dreamforge.contracts.jobs.refusal import refusal
from dreamforge.contracts.request.render_request import Deadlines, RenderRequest


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored image: it is shown from then on, however its attempt or its job ends."""

    index: int
    sha256: str
    attempt: int = 1
    erased: bool = False


@dataclass(frozen=True, slots=True)
class JobState(JobCourse):
    """One job, folded: its course, what it asks for, and which of its images are stored."""

    tenant: str = ""
    request: RenderRequest | None = None
    fingerprint: str | None = None
    deadlines: Deadlines | None = None
    artifacts: tuple[Artifact, ...] = ()
    """By index, each index once, whichever attempt has stored it."""
    warnings: tuple[JobWarned, ...] = ()
    """Of the current attempt, or of the one that ended the job, and those about images of earlier ones."""
    erase_at: datetime | None = None
    """Set from the request to erase the job until that is undone: nothing of the job is shown meanwhile."""
    erasures: int = 0
    archived: bool = False
    """Whether its events up to its end are in the object store."""

    @property
    def hidden(self) -> bool:
        """True while the job is answered as one that does not exist."""
        return self.erase_at is not None or self.status is Status.ERASED

    @property
    def missing_images(self) -> tuple[int, ...]:
        """Indexes of the images that no attempt has stored yet: what the next attempt renders."""
        stored = {artifact.index for artifact in self.artifacts}
        images = self.request.images if self.request is not None else 0
        return tuple(index for index in range(images) if index not in stored)


INITIAL = JobState()


class UnknownEvent(TypeError):
    """An event that the job aggregate does not know: never ignored, since that would fork history."""


def evolve(state: JobState, event: Event) -> JobState:
    """The state after one more fact. One that is refused changes nothing; after an end, only erasure is not.

    Errors: UnknownEvent for an event of another aggregate.
    """
    if not isinstance(event, JobEvent) or type(event) not in _FACTS:
        raise UnknownEvent(type(event).__name__)
    found = changes_of(state, event) if refusal(state, event) is None else {}
    return changed(state, **found) if found else state


def fold(events: Iterable[Event]) -> JobState:
    """The state after a whole history. Errors: as `evolve`."""
    return reduce(evolve, events, INITIAL)


def changes_of(state: JobState, event: JobEvent) -> Fields:
    """What an event of the aggregate that is not refused changes of the state: which fields, and to what."""
    if type(event) in _ERASURES:
        return _erasure(state, event)
    found = fields_after(event)
    if (own := _OWN.get(type(event))) is not None:
        found.update(own(state, event))
    return found


def _erasure(state: JobState, event: JobEvent) -> Fields:
    """Nothing is known of an erased job, so that its last event alone gives the same state as its whole history."""
    match event:
        case ErasureRequested():
            return {"erase_at": event.erase_at, "erasures": event.number}
        case ErasureUndone():
            return {"erase_at": None}
        case ArtifactErased():
            kept = (replace(each, erased=True) if each.index == event.index else each for each in state.artifacts)
            return {"artifacts": tuple(kept)}
    return dict(_FORGOTTEN)


def _requested(_: JobState, event: JobRequested) -> Fields:
    return {
        "tenant": event.tenant,
        "request": event.request,
        "fingerprint": event.fingerprint,
        "deadlines": event.deadlines,
    }


def _assigned(state: JobState, _: JobAssigned) -> Fields:
    stored = {artifact.index for artifact in state.artifacts}
    return {"warnings": tuple(each for each in state.warnings if each.image_index in stored)}


def _stored(state: JobState, event: ArtifactStored) -> Fields:
    """The image of a later attempt replaces that of an earlier one; `decide` stores no index twice."""
    by_index = {artifact.index: artifact for artifact in state.artifacts}
    earlier = by_index.get(event.index)
    if earlier is None or earlier.attempt <= event.attempt:
        by_index[event.index] = Artifact(event.index, event.sha256, event.attempt)
    return {"artifacts": tuple(by_index[index] for index in sorted(by_index))}


_FORGOTTEN: Fields = {each.name: getattr(INITIAL, each.name) for each in fields(JobState)} | {"status": Status.ERASED}
_FACTS = frozenset(JOB_EVENTS)
_ERASURES = frozenset(ERASURE_EVENTS)
# Any: each function takes the event class it stands under.
_OWN: dict[type[JobEvent], Callable[[JobState, Any], Fields]] = {
    JobRequested: _requested,
    JobAssigned: _assigned,
    ArtifactStored: _stored,
    JobArchived: lambda *_: {"archived": True},
    JobWarned: lambda state, event: {"warnings": (*state.warnings, event)},
}
