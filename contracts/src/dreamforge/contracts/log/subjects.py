"""The subjects of events, timers, leases and deliveries: the only place that knows their shape."""

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import (
    AttemptEvent,
    AttemptFailed,
    CancelRequested,
    Event,
    JobAssigned,
    JobEvent,
    StepProgressed,
)
from dreamforge.contracts.installation_events import (
    AddressFirstUsed,
    AuditEvent,
    KeyEvent,
    MessageParked,
    ModelEvent,
    ModelRegistered,
    ModelRemoved,
    ParkedSettled,
    QueueEvent,
    RunnerEvent,
    TenantEvent,
)
from dreamforge.contracts.webhook_events import DeliveryEvent, WebhookEvent

JOBS_ALL = "forge.jobs.>"
STEPS_ALL = "forge.steps.>"
RUNNERS_ALL = "forge.runners.>"
MODELS_ALL = "forge.models.>"
QUEUES_ALL = "forge.queues.>"
KEYS_ALL = "forge.keys.>"
TENANTS_ALL = "forge.tenants.>"
WEBHOOKS_ALL = "forge.webhooks.>"
DELIVERIES_ALL = "forge.deliveries.>"
AUDIT_ALL = "forge.audit.>"
PARKED_ALL = "forge.parked.>"
TIMERS_ALL = "forge.timers.>"
PROBES_ALL = "forge.probes.*"
TIMERS_DUE = "forge.timers.due.*"
FORECASTS = "forge.forecasts"
"""Questions to the scheduler that leads; in no stream."""


def given_up(stream: str) -> tuple[str, ...]:
    """What nats-server publishes when a consumer of a stream will not get a message again; the consumer comes last.

    >>> given_up("JOBS")[0]
    '$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.JOBS.*'
    """
    kinds = ("MAX_DELIVERIES", "MSG_TERMINATED")
    return tuple(f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.{stream}.*" for kind in kinds)


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


def key_filter(key_id: str) -> str:
    """All events of one API key: the filter of its version and of its fold."""
    return f"forge.keys.{key_id}.>"


def tenant_filter(tenant: str) -> str:
    """All events of one tenant: the filter of its version and of its fold."""
    return f"forge.tenants.{tenant}.>"


def webhook_filter(webhook_id: str) -> str:
    """All events of one webhook: the filter of its version and of its fold."""
    return f"forge.webhooks.{webhook_id}.>"


def runner_filter(runner_id: str) -> str:
    """All events of one runner: the filter of its version and of its fold."""
    return f"forge.runners.{runner_id}.>"


def steps_of(job_id: str) -> tuple[str, str]:
    """Where one job's progress is; the second is that of releases before 2026-11-27.

    >>> steps_of("J")
    ('forge.steps.J.>', 'forge.steps.J')
    """
    return f"forge.steps.{job_id}.>", f"forge.steps.{job_id}"


def assignments_to(runner_id: str) -> str:
    """Every assignment to one runner: the filter of its durable consumer.

    >>> assignments_to("gpu-1")
    'forge.jobs.*.*.assigned.gpu-1'
    """
    return f"forge.jobs.*.*.{JobAssigned.TOKEN}.{runner_id}"


def deliveries_to(runner_id: str) -> str:
    """Where that consumer delivers: in no stream, the runner subscribes to it."""
    return f"forge.deliver.{runner_id}"


def next_model_of(runner_id: str) -> str:
    """Where the scheduler tells a runner which model it will need: in no stream.

    >>> next_model_of("gpu-1")
    'forge.next.gpu-1'
    """
    return f"forge.next.{runner_id}"


def probe_of(service: str) -> str:
    """Where a service writes, to see that the log works.

    >>> probe_of("gateway")
    'forge.probes.gateway'
    """
    return f"forge.probes.{service}"


def timer_schedule(job_id: str) -> str:
    """Where a job's next timer is scheduled: one for each job, a new one replaces it.

    >>> timer_schedule("J")
    'forge.timers.schedule.J'
    """
    return f"forge.timers.schedule.{job_id}"


def timer_due(job_id: str) -> str:
    """Where that timer arrives. Not below forge.jobs: it states no version, so it must not change one."""
    return f"forge.timers.due.{job_id}"


CANCEL_REQUESTS = f"forge.jobs.*.*.{CancelRequested.TOKEN}"
# Of the scheduler; a runner's own end in its id.
ATTEMPT_FAILURES = f"forge.jobs.*.*.{AttemptFailed.TOKEN}"
ADDRESSES_FIRST_USED = f"forge.audit.*.{AddressFirstUsed.TOKEN}"
MODEL_CHANGES = tuple(f"forge.models.*.{event.TOKEN}" for event in (ModelRegistered, ModelRemoved))


def key_of(bucket: str, name: str) -> str:
    """The subject of a key of a KV bucket.

    >>> key_of("runners", "gpu-1")
    '$KV.runners.gpu-1'
    """
    return f"$KV.{bucket}.{name}"


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
        case KeyEvent():
            return key_filter(entity_id)
        case TenantEvent():
            return tenant_filter(entity_id)
        case WebhookEvent():
            return webhook_filter(entity_id)
    raise TypeError(f"{type(event).__name__} has no version")


def subject_of(event: Event, entity_id: str) -> str:
    """The subject an event is stored under; `entity_id` is its job, runner, model or parking service."""
    match event:
        case AttemptEvent():
            return address_of(type(event), entity_id, str(event.attempt), event.detail(), event.written_by)
        case JobEvent():
            return address_of(type(event), entity_id, str(event.attempt), event.detail())
        case ModelRegistered():  # its descriptor names the model: stored under another id it would be malformed
            return address_of(ModelRegistered, event.descriptor.model_id)
    return address_of(type(event), entity_id)


def address_of(
    kind: type[Event], entity_id: str, attempt: str = "", detail: str | None = None, written_by: str | None = None
) -> str:
    """The subject of a kind of event, from its parts: a template, when those are placeholders.

    >>> address_of(JobAssigned, "{job_id}", "{attempt}", "{runner_id}")
    'forge.jobs.{job_id}.{attempt}.assigned.{runner_id}'
    >>> address_of(StepProgressed, "J", written_by="gpu-1")
    'forge.steps.J.gpu-1'
    """
    if issubclass(kind, StepProgressed):
        return _joined(f"forge.steps.{entity_id}", written_by)
    if issubclass(kind, JobEvent):
        return _joined(f"forge.jobs.{entity_id}.{attempt}.{kind.TOKEN}", detail, written_by)
    if issubclass(kind, MessageParked):
        return f"forge.parked.{entity_id}"
    for base, category in _CATEGORIES.items():
        if issubclass(kind, base):
            return f"forge.{category}.{entity_id}.{kind.TOKEN}"
    raise TypeError(f"{kind.__name__} has no subject")


def has_detail(kind: type[JobEvent]) -> bool:
    """Whether one attempt can have several events of this kind, so that their subjects say which one."""
    return kind.detail is not JobEvent.detail


def published_by(kind: type[JobEvent], runner_id: str | None = None) -> str:
    """The subjects of a kind of event of any job that a runner may publish, or a service (None).

    >>> from dreamforge.contracts.events import ArtifactStored
    >>> published_by(ArtifactStored, "gpu-1"), published_by(AttemptFailed)
    ('forge.jobs.*.*.artifact.*.gpu-1', 'forge.jobs.*.*.attempt-failed')
    """
    return address_of(kind, "*", "*", "*" if has_detail(kind) else None, runner_id)


_CATEGORIES: dict[type[Event], str] = {
    RunnerEvent: "runners",
    ModelEvent: "models",
    QueueEvent: "queues",
    KeyEvent: "keys",
    AuditEvent: "audit",
    TenantEvent: "tenants",
    WebhookEvent: "webhooks",
    DeliveryEvent: "deliveries",
    ParkedSettled: "parked",
}


def _joined(*parts: str | None) -> str:
    return ".".join([part for part in parts if part is not None])


def entity_of(subject: str) -> str:
    """The job, runner, model, queue or service that a subject names.

    >>> entity_of("forge.jobs.J.0.requested")
    'J'
    """
    parts = subject.split(".", 3)
    if len(parts) < 3 or parts[0] != "forge":
        raise MalformedEvent(subject=subject, reason="not a subject of ours")
    return parts[2]
