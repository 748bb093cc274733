"""What can be asked of a job, imperative, with `now` as data; and the pure decision that answers."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dreamforge.contracts.errors import Conflict, IdempotencyConflict, JobNotFound, StaleAttempt
from dreamforge.contracts.events import (
    ArtifactStored,
    AttemptFailed,
    CancelRequested,
    Decision,
    FailureReason,
    JobAssigned,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobRequested,
    JobStarted,
    JobSucceeded,
    JobWarned,
)
from dreamforge.contracts.jobs.state import JobState, Status
from dreamforge.contracts.request.render_request import Deadlines, RenderRequest

RUNNERS_FAULT = frozenset({FailureReason.RUNNER_LOST, FailureReason.RUNNER_RESTARTED, FailureReason.RUNNER_DRAINED})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how late a failed attempt is followed by another: base * 2**(n-1), capped."""

    max_attempts: int = 4
    base_seconds: float = 1.0
    cap_seconds: float = 60.0

    def delay(self, attempt: int) -> timedelta:
        """The wait after the given attempt (from 1).

        >>> RetryPolicy().delay(3).total_seconds()
        4.0
        """
        return timedelta(seconds=min(self.cap_seconds, self.base_seconds * 2 ** min(attempt - 1, 30)))

    def delay_after(self, reason: FailureReason, attempt: int) -> timedelta:
        """The wait after an attempt that failed for `reason`: none after the first one that its runner is to blame
        for, since another runner can take the job at once; a job that takes runners down with it waits longer.

        >>> RetryPolicy().delay_after(FailureReason.RUNNER_LOST, 1).total_seconds()
        0.0
        """
        if reason not in RUNNERS_FAULT:
            return self.delay(attempt)
        return self.delay(attempt - 1) if attempt > 1 else timedelta(0)


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


@dataclass(frozen=True, slots=True)
class AssignJob:
    """Give attempt `attempt` to a runner instance."""

    now: datetime
    attempt: int
    runner_id: str
    instance_id: str
    estimated_vram_bytes: int
    decision: Decision
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class StartAttempt:
    """A runner is about to spend GPU time on this attempt."""

    now: datetime
    attempt: int
    runner_id: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class WarnAttempt:
    """A runner saw something that the job's owner should know; the attempt goes on."""

    now: datetime
    attempt: int
    warnings: tuple[JobWarned, ...]


@dataclass(frozen=True, slots=True)
class FinishAttempt:
    """A runner has stored every picture of this attempt."""

    now: datetime
    attempt: int
    artifacts: tuple[ArtifactStored, ...]
    render_seconds: float


@dataclass(frozen=True, slots=True)
class FailAttempt:
    """An attempt ended without its pictures: said by its runner, or by the scheduler for a lost one."""

    now: datetime
    attempt: int
    reason: FailureReason
    retryable: bool
    message: str
    policy: RetryPolicy = RetryPolicy()


@dataclass(frozen=True, slots=True)
class RequestCancel:
    """Stop the job wherever it is."""

    now: datetime
    requested_by: str = "client"


@dataclass(frozen=True, slots=True)
class ConfirmCancel:
    """The runner has stopped rendering an attempt whose cancel was requested."""

    now: datetime
    attempt: int
    stage: str = "running"


@dataclass(frozen=True, slots=True)
class Expire:
    """Look whether the job has missed a deadline of its owner's."""

    now: datetime


Command = (
    RequestJob
    | AssignJob
    | StartAttempt
    | WarnAttempt
    | FinishAttempt
    | FailAttempt
    | RequestCancel
    | ConfirmCancel
    | Expire
)
Events = tuple[JobEvent, ...]


def decide(state: JobState, command: Command) -> Events:
    """What follows from a command, as events to append at the version `state` was read at; () when nothing does.

    Total: every state answers every command with events or with a Conflict or NotFound.
    Errors: IdempotencyConflict (same key, other request), StaleAttempt (fenced out), JobNotFound (no such job).
    """
    if isinstance(command, RequestJob):
        return _request(state, command)
    if state.status is Status.NONE:
        raise JobNotFound(job_id="")
    match command:
        case AssignJob():
            return _assign(state, command)
        case StartAttempt():
            return _start(state, command)
        case WarnAttempt():
            return _warn(state, command)
        case FinishAttempt():
            return _finish(state, command)
        case FailAttempt():
            return _fail(state, command)
        case RequestCancel():
            return _cancel(state, command)
        case Expire():
            return _expire(state, command)
        case ConfirmCancel():
            _require_current(state, command.attempt, Status.RUNNING, Status.ASSIGNED)
            if not state.cancel_requested:
                raise Conflict("no cancel was requested")
            return (JobCancelled(at=command.now, attempt=command.attempt, stage=command.stage),)


def _require_current(state: JobState, attempt: int, *statuses: Status) -> None:
    if attempt != state.attempt or state.status not in statuses:
        raise StaleAttempt(attempt=attempt, current_attempt=state.attempt, status=state.status)


def _request(state: JobState, command: RequestJob) -> Events:
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
        ),
    )


def same_request(state: JobState, command: RequestJob) -> bool:
    """True when a command repeats the request that made the job.

    The same body (by fingerprint) is the same request even after a preset changed its defaults; the same resolved
    request is, however its body was written.
    """
    if state.fingerprint is not None and state.fingerprint == command.fingerprint:
        return state.tenant == command.tenant
    said = (command.tenant, command.priority, command.request, command.deadlines)
    return (state.tenant, state.priority, state.request, state.deadlines) == said


def _assign(state: JobState, command: AssignJob) -> Events:
    too_early = state.retry_at is not None and command.now < state.retry_at
    if state.status is not Status.QUEUED or command.attempt != state.attempt + 1 or too_early:
        raise StaleAttempt(attempt=command.attempt, current_attempt=state.attempt, status=state.status)
    assert state.request is not None
    return (
        JobAssigned(
            at=command.now,
            attempt=command.attempt,
            runner_id=command.runner_id,
            instance_id=command.instance_id,
            preset=state.request.preset,
            estimated_vram_bytes=command.estimated_vram_bytes,
            decision=command.decision,
            tier=command.tier,
        ),
    )


def _start(state: JobState, command: StartAttempt) -> Events:
    _require_current(state, command.attempt, Status.ASSIGNED)
    if (command.runner_id, command.instance_id) != (state.runner_id, state.instance_id):
        raise StaleAttempt(attempt=command.attempt, current_attempt=state.attempt, status=state.status)
    return (
        JobStarted(
            at=command.now,
            attempt=command.attempt,
            runner_id=command.runner_id,
            instance_id=command.instance_id,
        ),
    )


def _warn(state: JobState, command: WarnAttempt) -> Events:
    _require_current(state, command.attempt, Status.RUNNING)
    said = {warning.detail() for warning in state.warnings}
    fresh = {w.detail(): w for w in command.warnings if w.detail() not in said}
    return tuple(warning.model_copy(update={"attempt": command.attempt}) for warning in fresh.values())


def _finish(state: JobState, command: FinishAttempt) -> Events:
    _require_current(state, command.attempt, Status.RUNNING)
    if state.cancel_requested:
        return (JobCancelled(at=command.now, attempt=command.attempt, stage="uploading"),)
    done = JobSucceeded(
        at=command.now,
        attempt=command.attempt,
        artifacts=tuple(artifact.sha256 for artifact in command.artifacts),
        render_seconds=command.render_seconds,
    )
    return (*command.artifacts, done)


def _fail(state: JobState, command: FailAttempt) -> Events:
    _require_current(state, command.attempt, Status.ASSIGNED, Status.RUNNING)
    again = command.retryable and command.attempt < command.policy.max_attempts and not state.cancel_requested
    failed = AttemptFailed(
        at=command.now,
        attempt=command.attempt,
        runner_id=state.runner_id,
        reason=command.reason,
        retryable=command.retryable,
        message=command.message,
        retry_at=command.now + command.policy.delay_after(command.reason, command.attempt) if again else None,
    )
    if state.cancel_requested:
        return (failed, JobCancelled(at=command.now, attempt=command.attempt, stage=str(state.status)))
    if again:
        return (failed,)
    end = JobFailed(at=command.now, attempt=command.attempt, reason=command.reason, message=command.message)
    return (failed, end)


def _cancel(state: JobState, command: RequestCancel) -> Events:
    if state.terminal or state.cancel_requested:
        return ()
    asked = CancelRequested(at=command.now, attempt=state.attempt, requested_by=command.requested_by)
    if state.status is Status.RUNNING:
        return (asked,)
    return (asked, JobCancelled(at=command.now, attempt=state.attempt, stage=str(state.status)))


def overdue(state: JobState, now: datetime) -> FailureReason | None:
    """Which deadline of its owner's an open job has missed, if any."""
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


def _expire(state: JobState, command: Expire) -> Events:
    reason = overdue(state, command.now)
    if reason is None:
        return ()
    message = f"the job was {state.status} when its deadline passed"
    if state.status is Status.QUEUED:
        return (JobFailed(at=command.now, attempt=state.attempt, reason=reason, message=message),)
    return _fail(state, FailAttempt(command.now, state.attempt, reason, False, message))
