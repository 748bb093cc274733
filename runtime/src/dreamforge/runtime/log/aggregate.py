"""Aggregates as values: what the event store needs to load, decide and append for a job, a model, or the next kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from dreamforge.contracts.access import KeyCommand, KeyState, decide_key, evolve_key
from dreamforge.contracts.errors import JobNotFound
from dreamforge.contracts.events import Event, JobEvent
from dreamforge.contracts.installation_events import KeyEvent, ModelEvent, QueueEvent, TenantEvent
from dreamforge.contracts.jobs.decisions import Command, decide
from dreamforge.contracts.jobs.state import INITIAL, JobState, evolve
from dreamforge.contracts.log import subjects
from dreamforge.contracts.log.streams import JOBS, KEYS, MODELS, QUEUES, TENANTS, WEBHOOKS
from dreamforge.contracts.model_registry import ModelCommand, ModelState, decide_model, evolve_model
from dreamforge.contracts.queue_control import QueueCommand, QueueState, decide_queue, evolve_queue
from dreamforge.contracts.tenants import UNCONFIGURED, ConfigureTenant, TenantState, decide_tenant, evolve_tenant
from dreamforge.contracts.webhook_events import WebhookEvent
from dreamforge.contracts.webhooks import WebhookCommand, WebhookState, decide_webhook, evolve_webhook

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Aggregate(Generic[S, C, E]):
    """A kind of aggregate: where its events are, and its two pure functions."""

    stream: str
    filter_of: Callable[[str], str]
    """The subjects of one aggregate, by its id: the last sequence under them is its version."""
    initial: S
    decide: Callable[[str, S, C], tuple[E, ...]]
    """(id, state, command): the id is for the errors."""
    evolve: Callable[[S, Any], S]  # Any: events of the stream, which `evolve` checks


def _decide_job(job_id: str, state: JobState, command: Command) -> tuple[JobEvent, ...]:
    try:
        return decide(state, command)
    except JobNotFound:
        raise JobNotFound(job_id=job_id) from None


def _decide_model(_: str, state: ModelState, command: ModelCommand) -> tuple[ModelEvent, ...]:
    return decide_model(state, command)


def _decide_queue(_: str, state: QueueState, command: QueueCommand) -> tuple[QueueEvent, ...]:
    return decide_queue(state, command)


def _decide_tenant(_: str, state: TenantState, command: ConfigureTenant) -> tuple[TenantEvent, ...]:
    return decide_tenant(state, command)


JOB: Aggregate[JobState, Command, JobEvent] = Aggregate(JOBS.name, subjects.job_filter, INITIAL, _decide_job, evolve)
MODEL: Aggregate[ModelState, ModelCommand, ModelEvent] = Aggregate(
    MODELS.name, subjects.model_filter, ModelState(), _decide_model, evolve_model
)
QUEUE: Aggregate[QueueState, QueueCommand, QueueEvent] = Aggregate(
    QUEUES.name, subjects.queue_filter, QueueState(), _decide_queue, evolve_queue
)
KEY: Aggregate[KeyState, KeyCommand, KeyEvent] = Aggregate(
    KEYS.name, subjects.key_filter, KeyState(), decide_key, evolve_key
)
TENANT: Aggregate[TenantState, ConfigureTenant, TenantEvent] = Aggregate(
    TENANTS.name, subjects.tenant_filter, UNCONFIGURED, _decide_tenant, evolve_tenant
)
WEBHOOK: Aggregate[WebhookState, WebhookCommand, WebhookEvent] = Aggregate(
    WEBHOOKS.name, subjects.webhook_filter, WebhookState(), decide_webhook, evolve_webhook
)
