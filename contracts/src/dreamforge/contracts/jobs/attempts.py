"""What scheduler and runners ask of a job: to assign, start, warn of, finish and fail its attempts. Pure.

What the scheduler asks needs only the course of the job, so that it decides from its own fold, without loading the job
from the log. Warnings, images and the finish need the whole state.

An image counts from its `ArtifactStored` on, whatever becomes of its attempt and its job. An index that is stored is
stored by no later attempt: that one renders only what is missing, and may finish with images of several attempts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dreamforge.contracts.errors import Conflict, ImagesMissing, StaleAttempt
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
    RenderGroup,
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
    group: RenderGroup | None = None


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
class StoreImages:
    """A runner has stored these images; the attempt goes on."""

    now: datetime
    attempt: int
    artifacts: tuple[ArtifactStored, ...]


@dataclass(frozen=True, slots=True)
class FinishAttempt:
    """A runner has stored the last images of the job; `artifacts` are those that the log does not have yet."""

    now: datetime
    attempt: int
    artifacts: tuple[ArtifactStored, ...]
    render_seconds: float


@dataclass(frozen=True, slots=True)
class FailAttempt:
    """An attempt ended without all of its images: reported by its runner, or by the scheduler for a lost one."""

    now: datetime
    attempt: int
    reason: FailureReason
    retryable: bool
    message: str
    policy: RetryPolicy
    written_by: str | None = None
    """The runner that reports it; None: the scheduler."""


@dataclass(frozen=True, slots=True)
class ConfirmCancel:
    """The runner has stopped rendering an attempt whose cancel was requested."""

    now: datetime
    attempt: int
    stage: str = "running"


CourseCommand = AssignJob | StartAttempt | FailAttempt | ConfirmCancel
StateCommand = WarnAttempt | StoreImages | FinishAttempt
AttemptCommand = CourseCommand | StateCommand


def decide_course(course: JobCourse, command: CourseCommand) -> Events:
    """What follows from a command that needs only the course of a job.

    Errors: StaleAttempt (fenced out), Conflict (nothing to confirm).
    """
    return _BY_COURSE[type(command)](course, command)


def decide_state(state: JobState, command: StateCommand) -> Events:
    """What follows from a command of the runner that renders the job.

    Errors: StaleAttempt (fenced out), ImagesMissing (finished without all images).
    """
    return _BY_STATE[type(command)](state, command)


def _warn(state: JobState, command: WarnAttempt) -> Events:
    _require_current(state, command.attempt, frozenset({Status.RUNNING}))
    given = {warning.detail() for warning in state.warnings}
    fresh = {each.detail(): each for each in command.warnings if each.detail() not in given}
    of_attempt = {"attempt": command.attempt, "written_by": state.runner_id}
    return tuple(warning.model_copy(update=of_attempt) for warning in fresh.values())


def fail_events(
    course: JobCourse,
    reason: FailureReason,
    message: str,
    *,
    now: datetime,
    retryable: bool = False,
    retry_at: datetime | None = None,
    written_by: str | None = None,
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
        written_by=written_by,
    )
    if retry_at is not None and not course.cancel_requested:
        return (failed,)
    end: JobEvent
    if course.cancel_requested:
        end = JobCancelled(at=now, attempt=course.attempt, stage=str(course.status), written_by=written_by)
    else:
        end = JobFailed(at=now, attempt=course.attempt, reason=reason, message=message, written_by=written_by)
    return (failed, end)


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
            group=command.group,
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
            written_by=command.runner_id,
        ),
    )


def _store(state: JobState, command: StoreImages) -> Events:
    _require_current(state, command.attempt, frozenset({Status.RUNNING}))
    return tuple(_unstored(state, command.artifacts))


def _finish(state: JobState, command: FinishAttempt) -> Events:
    _require_current(state, command.attempt, frozenset({Status.RUNNING}))
    artifacts = _unstored(state, command.artifacts)
    if state.cancel_requested:
        stopped = JobCancelled(at=command.now, attempt=command.attempt, stage="uploading", written_by=state.runner_id)
        return (*artifacts, stopped)
    stored = {each.index: each.sha256 for each in state.artifacts}
    stored |= {each.index: each.sha256 for each in artifacts}
    if missing := tuple(index for index in state.missing_images if index not in stored):
        raise ImagesMissing(attempt=command.attempt, missing=missing)
    succeeded = JobSucceeded(
        at=command.now,
        attempt=command.attempt,
        artifacts=tuple(stored[index] for index in sorted(stored)),
        render_seconds=command.render_seconds,
        written_by=state.runner_id,
    )
    return (*artifacts, succeeded)


def _unstored(state: JobState, artifacts: tuple[ArtifactStored, ...]) -> list[ArtifactStored]:
    """Those whose index is not stored yet, each index once, as events of the runner that renders the job."""
    stored = {artifact.index for artifact in state.artifacts}
    fresh = {each.index: each for each in artifacts if each.index not in stored}
    return [each.model_copy(update={"written_by": state.runner_id}) for each in fresh.values()]


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
        written_by=command.written_by,
    )


def _confirm_cancel(course: JobCourse, command: ConfirmCancel) -> Events:
    _require_current(course, command.attempt, ON_RUNNER)
    if not course.cancel_requested:
        raise Conflict("no cancel was requested")
    stopped = JobCancelled(at=command.now, attempt=command.attempt, stage=command.stage, written_by=course.runner_id)
    return (stopped,)


# Any: each function takes the command class it stands under.
_BY_COURSE: dict[type[CourseCommand], Callable[[JobCourse, Any], Events]] = {
    AssignJob: _assign,
    StartAttempt: _start,
    FailAttempt: _fail,
    ConfirmCancel: _confirm_cancel,
}
_BY_STATE: dict[type[StateCommand], Callable[[JobState, Any], Events]] = {
    WarnAttempt: _warn,
    StoreImages: _store,
    FinishAttempt: _finish,
}
