"""Events that cannot come next in a job: what a foreign writer, or one that is late, may try."""

from datetime import datetime

from dreamforge.contracts.events import (
    ArtifactStored,
    AttemptEvent,
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
    WarningCode,
)
from dreamforge.contracts.jobs.course import JobCourse, Status
from dreamforge.contracts.request.render_request import RenderRequest

INTRUDER = "intruder"
REQUEST = RenderRequest(
    model_id="forged", preset="p", prompt="forged", width_px=8, height_px=8, steps=1, guidance_scale=0, seed=0
)
DECISION = Decision(waited_seconds=0, effective_priority=0, queue_length=0, required_bytes=0, candidates=())


def reports(at: datetime, attempt: int, runner_id: str, instance_id: str = "i") -> tuple[AttemptEvent, ...]:
    """Everything that a runner can say of an attempt."""
    said = {"at": at, "attempt": attempt, "written_by": runner_id}
    ended = {"reason": FailureReason.INTERNAL, "message": "forged"}
    image = {"content_type": "image/png", "width_px": 8, "height_px": 8, "seed": 0, "recipe": {}, "size_bytes": 1}
    return (
        JobStarted(**said, runner_id=runner_id, instance_id=instance_id),
        ArtifactStored(**said, **image, index=0, sha256="f" * 64),
        JobWarned(**said, code=WarningCode.IMAGE_BLACK, message="forged"),
        AttemptFailed(**said, **ended, runner_id=runner_id, retryable=True),
        JobSucceeded(**said, artifacts=("f" * 64,), render_seconds=0),
        JobFailed(**said, **ended),
        JobCancelled(**said, stage="forged"),
    )


def assignment(at: datetime, attempt: int, runner_id: str = INTRUDER) -> JobAssigned:
    """An assignment that no plan has made."""
    return JobAssigned(
        at=at,
        attempt=attempt,
        runner_id=runner_id,
        instance_id="i",
        preset="p",
        estimated_vram_bytes=1,
        decision=DECISION,
    )


def forgeries(course: JobCourse, at: datetime) -> tuple[JobEvent, ...]:
    """What must change nothing in this state of a job: of foreign runners, of wrong attempts, and out of turn."""
    now, other = max(1, course.attempt), max(1, course.attempt) + 1
    holder = course.assigned_to or INTRUDER
    services = (
        AttemptFailed(
            at=at, attempt=other, runner_id=holder, reason=FailureReason.RUNNER_LOST, retryable=True, message="forged"
        ),
        JobFailed(at=at, attempt=other, reason=FailureReason.INTERNAL, message="forged"),
        JobCancelled(at=at, attempt=other, stage="forged"),
        CancelRequested(at=at, attempt=other),
        assignment(at, course.attempt + 2),
    )
    found: list[JobEvent] = [*reports(at, now, INTRUDER), *reports(at, other, holder), *services]
    if course.attempt:
        found += [assignment(at, course.attempt, holder), reports(at, now, holder, "another instance")[0]]
    if course.status is not Status.NONE:
        found.append(JobRequested(at=at, tenant="forged", request=REQUEST))
    if course.terminal or course.status is Status.NONE:
        found += [*reports(at, now, holder), CancelRequested(at=at, attempt=course.attempt)]
        found.append(assignment(at, course.attempt + 1))
    return tuple(found)
