"""Which events of a job its folds refuse: what subjects and permissions cannot express. Pure.

Every append of ours is decided on the state that it states, so an event that no decision can have made here is forged,
or was written past the version. It changes nothing, in any fold, as if it were not in the log; the projector parks it.
The rules read only what each fold of a course has, the tables included.
"""

from dreamforge.contracts.events import (
    ERASURE_EVENTS,
    ArtifactStored,
    AttemptEvent,
    AttemptFailed,
    JobArchived,
    JobAssigned,
    JobErased,
    JobEvent,
    JobRequested,
    JobStarted,
    JobSucceeded,
    JobWarned,
    StepProgressed,
)
from dreamforge.contracts.jobs.course import ON_RUNNER, JobCourse, Status

NO_REQUEST = "no request of the job comes before it"
WHILE_RUNNING = frozenset((ArtifactStored, JobWarned, JobSucceeded))
AFTER_THE_END = frozenset((*ERASURE_EVENTS, JobArchived))


def refusal(course: JobCourse, event: JobEvent) -> str | None:
    """Why an event cannot be the next one of this job, as a clause; None where it can.

    >>> refusal(JobCourse(), JobStarted.model_construct(attempt=1)) == NO_REQUEST
    True
    """
    kind = type(event)  # no event class has subclasses, and every fold asks this of every event
    if kind is JobErased:  # whatever the log still has of the job before it
        return "the job was erased before" if course.status is Status.ERASED else None
    if course.status is Status.NONE:
        return None if kind is JobRequested and not event.attempt else NO_REQUEST
    if kind is JobRequested:
        return "the job was requested before"
    over = course.terminal
    if kind in AFTER_THE_END:
        if kind is JobArchived and not over:
            return f"it archives a job that is {course.status}"
        if course.status is not Status.ERASED:
            return None
    if over:
        return f"the job is over: it has {course.status}"
    if isinstance(event, JobAssigned):
        return _of_assignment(course, event)
    if event.attempt != course.attempt:
        return f"it is about attempt {event.attempt}, and the job is at attempt {course.attempt}"
    return _of_attempt(course, event) if isinstance(event, AttemptEvent) else None


def step_refusal(runner_id: str | None, step: StepProgressed) -> str | None:
    """The same for a step of an attempt that was given to this runner; None: not given yet, as far as was read."""
    if runner_id is None:
        return f"attempt {step.attempt} is not assigned"
    if step.written_by not in (None, runner_id):
        return f"{step.written_by} wrote it, and attempt {step.attempt} is {runner_id}'s"
    return None


def _of_assignment(course: JobCourse, event: JobAssigned) -> str | None:
    if course.status is not Status.QUEUED:
        return f"it assigns a job that is {course.status}"
    if event.attempt != course.attempt + 1:
        return f"it assigns attempt {event.attempt}, and the next one is {course.attempt + 1}"
    return None


def _of_attempt(course: JobCourse, event: AttemptEvent) -> str | None:
    if event.written_by is not None and event.written_by != course.assigned_to:
        return f"{event.written_by} wrote it, and attempt {course.attempt} is {course.assigned_to or 'no runner'}'s"
    if type(event) in WHILE_RUNNING:
        return None if course.status is Status.RUNNING else _out_of_turn(course, event)
    if isinstance(event, JobStarted):
        return _of_start(course, event)
    if isinstance(event, AttemptFailed):
        if course.status not in ON_RUNNER:
            return _out_of_turn(course, event)
        other = event.runner_id != course.assigned_to
        return f"it fails the attempt of {event.runner_id}, which is {course.assigned_to}'s" if other else None
    # The end of the job. A runner may write it while it has the attempt, and right after its last failure.
    may_end = course.status in ON_RUNNER or course.retry_at is None
    return None if event.written_by is None or may_end else _out_of_turn(course, event)


def _of_start(course: JobCourse, event: JobStarted) -> str | None:
    if course.status is not Status.ASSIGNED:
        return _out_of_turn(course, event)
    given, starts = (course.runner_id, course.instance_id), (event.runner_id, event.instance_id)
    return None if given == starts else f"{' '.join(starts)} starts it, and it was given to {' '.join(given)}"


def _out_of_turn(course: JobCourse, event: JobEvent) -> str:
    return f"{event.TOKEN} of a job that is {course.status}"
