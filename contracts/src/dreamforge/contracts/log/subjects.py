"""Where each event lives. One place knows the shape of our subjects."""

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import (
    Event,
    JobAssigned,
    JobEvent,
    MessageParked,
    ModelEvent,
    ModelRegistered,
    ParkedSettled,
    QueueEvent,
    RunnerEvent,
    StepProgressed,
)

JOBS_ALL = "forge.jobs.>"
STEPS_ALL = "forge.steps.*"
RUNNERS_ALL = "forge.runners.>"
MODELS_ALL = "forge.models.>"
QUEUES_ALL = "forge.queues.>"
PARKED_ALL = "forge.parked.>"
TIMERS_ALL = "forge.timers.>"
TIMERS_DUE = "forge.timers.due.*"
# nats-server's own words for a message that a consumer will not get again.
GIVEN_UP = ("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>", "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>")


def job_filter(job_id: str) -> str:
    """All events of one job: the filter of its version and of its fold.

    >>> job_filter("J")
    'forge.jobs.J.>'
    """
    return f"forge.jobs.{job_id}.>"


def model_filter(model_id: str) -> str:
    """All events of one model: the filter of its version and of its fold.

    >>> model_filter("forge-shapes")
    'forge.models.forge-shapes.>'
    """
    return f"forge.models.{model_id}.>"


def queue_filter(scope: str) -> str:
    """All events of one queue: the filter of its version and of its fold."""
    return f"forge.queues.{scope}.>"


def runner_filter(runner_id: str) -> str:
    """All events of one runner: the filter of its version and of its fold."""
    return f"forge.runners.{runner_id}.>"


def steps_of(job_id: str) -> str:
    """The subject of one job's progress."""
    return f"forge.steps.{job_id}"


def assignments_to(runner_id: str) -> str:
    """Every assignment to one runner: the filter of its durable consumer.

    >>> assignments_to("gpu-1")
    'forge.jobs.*.*.assigned.gpu-1'
    """
    return f"forge.jobs.*.*.{JobAssigned.TOKEN}.{runner_id}"


def timer_schedule(job_id: str) -> str:
    """Where a job's next wake-up is scheduled: one a job, a new one replaces it.

    >>> timer_schedule("J")
    'forge.timers.schedule.J'
    """
    return f"forge.timers.schedule.{job_id}"


def timer_due(job_id: str) -> str:
    """Where that wake-up arrives. Not below forge.jobs: it carries no expectation, so it must not move a version."""
    return f"forge.timers.due.{job_id}"


CANCEL_REQUESTS = "forge.jobs.*.*.cancel-requested"


def aggregate_filter(event: Event, entity_id: str) -> str:
    """The filter whose last sequence is the version of the aggregate that `event` belongs to."""
    match event:
        case StepProgressed():
            raise TypeError("steps have no version")
        case JobEvent():
            return job_filter(entity_id)
        case RunnerEvent():
            return runner_filter(entity_id)
        case ModelEvent():
            return model_filter(entity_id)
        case QueueEvent():
            return queue_filter(entity_id)
    raise TypeError(f"{type(event).__name__} has no version")


def subject_of(event: Event, entity_id: str) -> str:
    """The subject an event is stored under; `entity_id` is its job, runner, model or parking service."""
    match event:
        case StepProgressed():
            return steps_of(entity_id)
        case JobEvent():
            detail = event.detail()
            tail = f"{event.attempt}.{event.TOKEN}" + (f".{detail}" if detail is not None else "")
            return f"forge.jobs.{entity_id}.{tail}"
        case RunnerEvent():
            return f"forge.runners.{entity_id}.{event.TOKEN}"
        case ModelRegistered():  # says itself whose it is: under another name it would be a model that is none
            return f"forge.models.{event.descriptor.model_id}.{event.TOKEN}"
        case ModelEvent():
            return f"forge.models.{entity_id}.{event.TOKEN}"
        case QueueEvent():
            return f"forge.queues.{entity_id}.{event.TOKEN}"
        case MessageParked():
            return f"forge.parked.{entity_id}"
        case ParkedSettled():
            return f"forge.parked.{entity_id}.{event.TOKEN}"
    raise TypeError(f"{type(event).__name__} has no subject")


def entity_of(subject: str) -> str:
    """The job, runner, model or service a subject speaks of.

    >>> entity_of("forge.jobs.J.0.requested")
    'J'
    """
    parts = subject.split(".", 3)
    if len(parts) < 3 or parts[0] != "forge":
        raise MalformedEvent(subject=subject, reason="not a subject of ours")
    return parts[2]


def token_of(subject: str) -> str:
    """The event token of a job subject, without touching the payload.

    >>> token_of("forge.jobs.J.1.assigned.gpu-1")
    'assigned'
    """
    parts = subject.split(".")
    if len(parts) < 5 or parts[1] != "jobs":
        raise MalformedEvent(subject=subject, reason="not a job subject")
    return parts[4]
