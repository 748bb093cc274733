"""What scheduler and runners ask of a job: to assign, start, warn of, finish and fail its attempts. Pure.

All of it but warnings needs only the course of the job, so that the scheduler decides from its own fold, without
loading the job from the log.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dreamforge.contracts.errors import Conflict, StaleAttempt
from dreamforge.contracts.events import (
    ArtifactStored,
    AttemptFailed,
    Decision,
    FailureReason,
    JobAssigned,
    JobCancelled,
    JobEvent,
    JobFailed,
    JobStarted,
    JobSucceeded,
    JobWarned,
)
from dreamforge.contracts.jobs.course import ON_RUNNER, JobCourse, Status
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.jobs.state import JobState

Events = tuple[JobEvent, ...]


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
    """A runner has stored every image of this attempt."""

    now: datetime
    attempt: int
    artifacts: tuple[ArtifactStored, ...]
    render_seconds: float


@dataclass(frozen=True, slots=True)
class FailAttempt:
    """An attempt ended without its images: reported by its runner, or by the scheduler for a lost one."""

    now: datetime
    attempt: int
    reason: FailureReason
    retryable: bool
    message: str
    policy: RetryPolicy


@dataclass(frozen=True, slots=True)
class ConfirmCancel:
    """The runner has stopped rendering an attempt whose cancel was requested."""

    now: datetime
    attempt: int
    stage: str = "running"


CourseCommand = AssignJob | StartAttempt | FinishAttempt | FailAttempt | ConfirmCancel
AttemptCommand = CourseCommand | WarnAttempt


def decide_course(course: JobCourse, command: CourseCommand) -> Events:
    """What follows from a command that needs only the course of a job.

    Errors: StaleAttempt (fenced out), Conflict (nothing to confirm).
    """
    return _DECISIONS[type(command)](course, command)


def warn(state: JobState, command: WarnAttempt) -> Events:
    """The warnings that this attempt has not given yet. Errors: StaleAttempt."""
    _require_current(state, command.attempt, frozenset({Status.RUNNING}))
    given = {warning.detail() for warning in state.warnings}
    fresh = {each.detail(): each for each in command.warnings if each.detail() not in given}
    return tuple(warning.model_copy(update={"attempt": command.attempt}) for warning in fresh.values())


def fail_events(
    course: JobCourse,
    reason: FailureReason,
    message: str,
    *,
    now: datetime,
    retryable: bool = False,
    retry_at: datetime | None = None,
) -> Events:
    """The current attempt fails; without `retry_at` the job ends with it."""
    failed = AttemptFailed(
        at=now,
        attempt=course.attempt,
        runner_id=course.runner_id,
        reason=reason,
        retryable=retryable,
        message=message,
        retry_at=retry_at,
    )
    if course.cancel_requested:
        return (failed, JobCancelled(at=now, attempt=course.attempt, stage=str(course.status)))
    if retry_at is not None:
        return (failed,)
    return (failed, JobFailed(at=now, attempt=course.attempt, reason=reason, message=message))


def _require_current(course: JobCourse, attempt: int, statuses: frozenset[Status]) -> None:
    if attempt != course.attempt or course.status not in statuses:
        raise _stale(course, attempt)


def _stale(course: JobCourse, attempt: int) -> StaleAttempt:
    return StaleAttempt(attempt=attempt, current_attempt=course.attempt, status=course.status)


def _assign(course: JobCourse, command: AssignJob) -> Events:
    too_early = course.retry_at is not None and command.now < course.retry_at
    if not course.assignable or command.attempt != course.attempt + 1 or too_early:
        raise _stale(course, command.attempt)
    return (
        JobAssigned(
            at=command.now,
            attempt=command.attempt,
            runner_id=command.runner_id,
            instance_id=command.instance_id,
            preset=course.preset,
            estimated_vram_bytes=command.estimated_vram_bytes,
            decision=command.decision,
            tier=command.tier,
        ),
    )


def _start(course: JobCourse, command: StartAttempt) -> Events:
    _require_current(course, command.attempt, frozenset({Status.ASSIGNED}))
    if (command.runner_id, command.instance_id) != (course.runner_id, course.instance_id):
        raise _stale(course, command.attempt)
    return (
        JobStarted(
            at=command.now,
            attempt=command.attempt,
            runner_id=command.runner_id,
            instance_id=command.instance_id,
        ),
    )


def _finish(course: JobCourse, command: FinishAttempt) -> Events:
    _require_current(course, command.attempt, frozenset({Status.RUNNING}))
    if course.cancel_requested:
        return (JobCancelled(at=command.now, attempt=command.attempt, stage="uploading"),)
    succeeded = JobSucceeded(
        at=command.now,
        attempt=command.attempt,
        artifacts=tuple(artifact.sha256 for artifact in command.artifacts),
        render_seconds=command.render_seconds,
    )
    return (*command.artifacts, succeeded)


def _fail(course: JobCourse, command: FailAttempt) -> Events:
    _require_current(course, command.attempt, ON_RUNNER)
    policy = command.policy
    again = command.retryable and command.attempt < policy.max_attempts and not course.cancel_requested
    return fail_events(
        course,
        command.reason,
        command.message,
        now=command.now,
        retryable=command.retryable,
        retry_at=command.now + policy.delay_after(command.reason, command.attempt) if again else None,
    )


def _confirm_cancel(course: JobCourse, command: ConfirmCancel) -> Events:
    _require_current(course, command.attempt, ON_RUNNER)
    if not course.cancel_requested:
        raise Conflict("no cancel was requested")
    return (JobCancelled(at=command.now, attempt=command.attempt, stage=command.stage),)


# Any: each function takes the command class it stands under.
_DECISIONS: dict[type[CourseCommand], Callable[[JobCourse, Any], Events]] = {
    AssignJob: _assign,
    StartAttempt: _start,
    FinishAttempt: _finish,
    FailAttempt: _fail,
    ConfirmCancel: _confirm_cancel,
}
