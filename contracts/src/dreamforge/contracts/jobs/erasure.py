"""Erasing a job, or one of its images. Pure.

A job is erased in two steps. From the request on it is hidden, and that can be undone. When it is due and the job is
over, `JobErased` is appended; after it everything else of the job is removed from the log and from every copy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dreamforge.contracts.errors import ArtifactNotFound, JobNotFound
from dreamforge.contracts.events import ArtifactErased, ErasureRequested, ErasureUndone, JobErased
from dreamforge.contracts.jobs.attempts import Events
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.owner import RequestCancel, cancel
from dreamforge.contracts.jobs.state import JobState


@dataclass(frozen=True, slots=True)
class RequestErasure:
    """Hide the job, and erase it from `erase_at` on. An open job is cancelled first."""

    now: datetime
    erase_at: datetime
    requested_by: str = "client"


@dataclass(frozen=True, slots=True)
class UndoErasure:
    """Show the job again."""

    now: datetime
    requested_by: str = "client"


@dataclass(frozen=True, slots=True)
class EraseJob:
    """Erase the job for good, if that is due."""

    now: datetime


@dataclass(frozen=True, slots=True)
class EraseArtifact:
    """Erase one image: the one with this index in the job, which this attempt has stored."""

    now: datetime
    attempt: int
    index: int
    requested_by: str = "client"


ErasureCommand = RequestErasure | UndoErasure | EraseJob | EraseArtifact


def due(state: JobState, now: datetime) -> bool:
    """Whether a job is to be erased now: its time has come, and no attempt of it can still write."""
    return state.erase_at is not None and state.terminal and now >= state.erase_at


def decide_erasure(state: JobState, command: ErasureCommand) -> Events:
    """What follows from a command; () when nothing does. Errors: JobNotFound (erased), ArtifactNotFound."""
    if state.status is Status.ERASED:
        if isinstance(command, EraseJob):
            return ()
        raise JobNotFound(job_id="")
    return _DECISIONS[type(command)](state, command)


def _request(state: JobState, command: RequestErasure) -> Events:
    if state.erase_at is not None:
        return ()
    asked = ErasureRequested(
        at=command.now,
        attempt=state.attempt,
        erase_at=command.erase_at,
        requested_by=command.requested_by,
        number=state.erasures + 1,
    )
    return (*cancel(state, RequestCancel(command.now, command.requested_by)), asked)


def _undo(state: JobState, command: UndoErasure) -> Events:
    if state.erase_at is None:
        return ()
    by, number = command.requested_by, state.erasures
    return (ErasureUndone(at=command.now, attempt=state.attempt, requested_by=by, number=number),)


def _erase(state: JobState, command: EraseJob) -> Events:
    if not due(state, command.now):
        return ()
    return (JobErased(at=command.now, images=sum(not each.erased for each in state.artifacts)),)


def _erase_artifact(state: JobState, command: EraseArtifact) -> Events:
    named = (command.attempt, command.index)
    found = next((each for each in state.artifacts if (each.attempt, each.index) == named), None)
    if found is None or state.erase_at is not None:
        raise ArtifactNotFound(artifact_id=str(command.index))
    if found.erased:
        return ()
    by = command.requested_by
    return (ArtifactErased(at=command.now, attempt=found.attempt, index=found.index, requested_by=by),)


# Any: each function takes the command class it stands under.
_DECISIONS: dict[type[ErasureCommand], Callable[[JobState, Any], Events]] = {
    RequestErasure: _request,
    UndoErasure: _undo,
    EraseJob: _erase,
    EraseArtifact: _erase_artifact,
}
