"""What the owner of a job asks of it, from its request to its deadline. Pure.

A new command of owners is a class, its decision, and a line in `DECISIONS`, all here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from dreamforge.contracts.errors import IdempotencyConflict, JobWasErased
from dreamforge.contracts.events import (
    CancelRequested,
    FailureReason,
    JobCancelled,
    JobFailed,
    JobHeld,
    JobPriorityChanged,
    JobReleased,
    JobRequested,
)
from dreamforge.contracts.jobs.attempts import Events, fail_events
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.state import JobState
from dreamforge.contracts.request.batch import BatchPlace
from dreamforge.contracts.request.render_request import Deadlines, RenderRequest
from dreamforge.contracts.request.workflow import Workflow


@dataclass(frozen=True, slots=True)
class RequestJob:
    """Make the job, or find it made already by the same request."""

    job_id: str
    now: datetime
    tenant: str
    priority: int
    request: RenderRequest
    idempotency_key: str | None = None
    fingerprint: str | None = None
    deadlines: Deadlines | None = None
    written_prompt: str | None = None
    batch: BatchPlace | None = None
    workflow: Workflow | None = None


@dataclass(frozen=True, slots=True)
class RequestCancel:
    """Stop the job wherever it is."""

    now: datetime
    requested_by: str = "client"


@dataclass(frozen=True, slots=True)
class Expire:
    """Look whether the job has missed a deadline of its owner."""

    now: datetime


@dataclass(frozen=True, slots=True)
class HoldJob:
    """Keep the job from being assigned until it is released."""

    now: datetime
    requested_by: str = "client"


@dataclass(frozen=True, slots=True)
class ReleaseJob:
    """Let the job be assigned again."""

    now: datetime
    requested_by: str = "client"


@dataclass(frozen=True, slots=True)
class ChangePriority:
    """Give the job another priority, 0 to 9."""

    now: datetime
    priority: int
    requested_by: str = "client"


OwnerCommand = RequestCancel | Expire | HoldJob | ReleaseJob | ChangePriority


def request(state: JobState, command: RequestJob) -> Events:
    """The one command that makes a job. Errors: IdempotencyConflict (same id, other request), JobWasErased."""
    if state.hidden:
        raise JobWasErased(job_id=command.job_id)
    if state.status is not Status.NONE:
        if not same_request(state, command):
            raise IdempotencyConflict(job_id=command.job_id)
        return ()
    return (
        JobRequested(
            at=command.now,
            tenant=command.tenant,
            priority=command.priority,
            request=command.request,
            idempotency_key=command.idempotency_key,
            fingerprint=command.fingerprint,
            deadlines=command.deadlines,
            written_prompt=command.written_prompt,
            batch=command.batch,
            workflow=command.workflow,
        ),
    )


def same_request(state: JobState, command: RequestJob) -> bool:
    """True when a command repeats the request that made the job.

    The same body (by fingerprint) is the same request even after a preset changed its defaults; the same resolved
    request is, however its body was written.
    """
    if state.fingerprint is not None and state.fingerprint == command.fingerprint:
        return state.tenant == command.tenant
    repeated = (command.tenant, command.priority, command.request, command.deadlines)
    return (state.tenant, state.priority, state.request, state.deadlines) == repeated


def overdue(state: JobState, now: datetime) -> FailureReason | None:
    """Which deadline of its owner an open job has missed, if any."""
    limits = state.deadlines
    if limits is None or state.terminal or state.requested_at is None:
        return None
    if state.status is Status.RUNNING:
        missed = _passed(state.started_at, limits.run_within_seconds, now)
        return FailureReason.RUN_DEADLINE if missed else None
    missed = _passed(state.requested_at, limits.start_within_seconds, now)
    return FailureReason.START_DEADLINE if missed else None


def _passed(since: datetime | None, seconds: float | None, now: datetime) -> bool:
    return since is not None and seconds is not None and now >= since + timedelta(seconds=seconds)


def cancel(state: JobState, command: RequestCancel) -> Events:
    """An open job is stopped: at once, or by its runner if it is on one."""
    if state.terminal or state.cancel_requested:
        return ()
    asked = CancelRequested(at=command.now, attempt=state.attempt, requested_by=command.requested_by)
    if state.status is Status.RUNNING:
        return (asked,)
    return (asked, JobCancelled(at=command.now, attempt=state.attempt, stage=str(state.status)))


def _expire(state: JobState, command: Expire) -> Events:
    reason = overdue(state, command.now)
    if reason is None:
        return ()
    message = f"the job was {state.status} when its deadline passed"
    if state.status is Status.QUEUED:
        return (JobFailed(at=command.now, attempt=state.attempt, reason=reason, message=message),)
    return fail_events(state, reason, message, now=command.now)


def _hold(state: JobState, command: HoldJob) -> Events:
    if state.terminal or state.held_since is not None:
        return ()
    number = state.holds + 1
    return (JobHeld(at=command.now, attempt=state.attempt, requested_by=command.requested_by, number=number),)


def _release(state: JobState, command: ReleaseJob) -> Events:
    if state.terminal or state.held_since is None:
        return ()
    number = state.holds
    return (JobReleased(at=command.now, attempt=state.attempt, requested_by=command.requested_by, number=number),)


def _change_priority(state: JobState, command: ChangePriority) -> Events:
    if state.terminal or state.priority == command.priority:
        return ()
    return (
        JobPriorityChanged(
            at=command.now,
            attempt=state.attempt,
            priority=command.priority,
            requested_by=command.requested_by,
            number=state.priority_changes + 1,
        ),
    )


# Any: each function takes the command class it stands under.
DECISIONS: dict[type[OwnerCommand], Callable[[JobState, Any], Events]] = {
    RequestCancel: cancel,
    Expire: _expire,
    HoldJob: _hold,
    ReleaseJob: _release,
    ChangePriority: _change_priority,
}
