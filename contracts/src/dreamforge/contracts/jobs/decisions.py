"""`decide(state, command) -> events`: the only maker of job events. Pure, with `now` as data in each command."""

from dreamforge.contracts.errors import JobNotFound
from dreamforge.contracts.jobs import attempts, owner
from dreamforge.contracts.jobs.archival import ArchiveJob, decide_archival
from dreamforge.contracts.jobs.attempts import (
    AssignJob,
    AttemptCommand,
    ConfirmCancel,
    Events,
    FailAttempt,
    FinishAttempt,
    StartAttempt,
    StateCommand,
    StoreImages,
    WarnAttempt,
)
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.erasure import ErasureCommand, decide_erasure
from dreamforge.contracts.jobs.owner import (
    ChangePriority,
    Expire,
    HoldJob,
    OwnerCommand,
    ReleaseJob,
    RequestCancel,
    RequestJob,
)
from dreamforge.contracts.jobs.state import JobState

__all__ = [
    "AssignJob",
    "Command",
    "ConfirmCancel",
    "Events",
    "Expire",
    "FailAttempt",
    "FinishAttempt",
    "RequestCancel",
    "RequestJob",
    "StartAttempt",
    "StoreImages",
    "WarnAttempt",
    "decide",
]

Command = RequestJob | OwnerCommand | ErasureCommand | ArchiveJob | AttemptCommand
# A deadline is looked at by the scheduler, also while the job is hidden.
_SEEN_BY_OWNERS = (RequestCancel, HoldJob, ReleaseJob, ChangePriority)


def decide(state: JobState, command: Command) -> Events:
    """What follows from a command, as events to append at the version `state` was read at; () when nothing does.

    Total: every state answers every command with events or with a Conflict or NotFound.
    Errors: IdempotencyConflict (same key, other request), JobWasErased (same key, job is hidden), StaleAttempt (fenced
    out), ImagesMissing (a finish without all images), JobNotFound (no such job, or hidden), ArtifactNotFound.
    """
    if isinstance(command, RequestJob):
        return owner.request(state, command)
    if state.status is Status.NONE:
        raise JobNotFound(job_id="")
    if isinstance(command, ErasureCommand):
        return decide_erasure(state, command)
    if isinstance(command, ArchiveJob):
        return decide_archival(state, command)
    if state.hidden and isinstance(command, _SEEN_BY_OWNERS):
        raise JobNotFound(job_id="")
    if isinstance(command, OwnerCommand):
        return owner.DECISIONS[type(command)](state, command)
    if isinstance(command, StateCommand):
        return attempts.decide_state(state, command)
    return attempts.decide_course(state, command)
