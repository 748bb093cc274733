"""Who did what, as a fold of the facts: which events count, and what an entry says of each. Pure."""

from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, Field, JsonValue

from dreamforge.contracts.events import (
    ArtifactErased,
    CancelRequested,
    ErasureRequested,
    ErasureUndone,
    Event,
    JobErased,
    JobEvent,
    JobHeld,
    JobPriorityChanged,
    JobReleased,
    JobRequested,
)
from dreamforge.contracts.installation_events import (
    AuditEvent,
    KeyCreated,
    ModelRegistered,
    ModelVerified,
    QueueEvent,
    TenantEvent,
)
from dreamforge.contracts.log import subjects
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.log.streams import AUDIT, JOBS, KEYS, MODELS, QUEUES, TENANTS, WEBHOOKS
from dreamforge.contracts.models.descriptor import Value
from dreamforge.contracts.queue_control import tenant_of_scope
from dreamforge.contracts.webhook_events import WebhookEvent

OWNERS_EVENTS: tuple[type[JobEvent], ...] = (
    JobRequested,
    CancelRequested,
    JobHeld,
    JobReleased,
    JobPriorityChanged,
    ErasureRequested,
    ErasureUndone,
    ArtifactErased,
    JobErased,
)
# Stream and filter of each kind of fact; a subject is under one of them at the most.
SOURCES: tuple[tuple[str, str], ...] = (
    (AUDIT.name, subjects.AUDIT_ALL),
    (KEYS.name, subjects.KEYS_ALL),
    (TENANTS.name, subjects.TENANTS_ALL),
    (WEBHOOKS.name, subjects.WEBHOOKS_ALL),
    (QUEUES.name, subjects.QUEUES_ALL),
    (MODELS.name, subjects.MODELS_ALL),
    *((JOBS.name, f"forge.jobs.*.*.{event.TOKEN}{tail}") for event in OWNERS_EVENTS for tail in ("", ".*")),
)
# What an entry shows of an event; prompts and secrets are not among them.
DETAILS = (
    "method",
    "reason",
    "times",
    "job_id",
    "name",
    "scopes",
    "expires_at",
    "priority",
    "weight",
    "quotas",
    "url",
    "kinds",
)


class AuditActor(Value):
    """Who it was, and from where."""

    kind: str = Field(description="api_key, app_user (OpenID Connect), user (operator), unauthenticated")
    id: str = Field(description="id of the key, subject at the provider, or name of the operator")
    tenant: str | None = None
    address: str | None = None
    user_agent: str | None = None


class AuditEntry(Value):
    """One thing that was done."""

    at: AwareDatetime
    action: str = Field(description="the type of the event, as in /asyncapi")
    tenant: str | None = Field(description="whose it was done to; null: of no tenant, or not known")
    entity_id: str = Field(description="the job, key, model, queue or tenant")
    actor: AuditActor | None = Field(description="null: written before actors were, or by a service")
    details: dict[str, JsonValue]
    stream: str
    sequence: int


def entry_of(recorded: Recorded, stream: str, tenant_of_job: str | None = None) -> AuditEntry | None:
    """What the audit says of an event; None for one that it leaves out: what runners found of models by themselves."""
    event, actor = recorded.event, recorded.actor
    by_runner = actor is None and not getattr(event, "by_hand", False)
    if by_runner and isinstance(event, ModelRegistered | ModelVerified):
        return None
    found: dict[str, Any] = event.model_dump(mode="json")
    return AuditEntry(
        at=event.at,
        action=event.TYPE,
        tenant=_tenant_of(event, recorded.entity_id) or tenant_of_job,
        entity_id=recorded.entity_id,
        actor=None
        if actor is None
        else AuditActor(
            kind=actor.kind,
            id=actor.id,
            tenant=actor.tenant or None,
            address=actor.address or None,
            user_agent=actor.user_agent or None,
        ),
        details={name: found[name] for name in DETAILS if found.get(name) is not None},
        stream=stream,
        sequence=recorded.sequence,
    )


def _tenant_of(event: Event, entity_id: str) -> str | None:
    match event:
        case JobRequested() | KeyCreated() | WebhookEvent():
            return event.tenant
        case TenantEvent():
            return entity_id
        case QueueEvent():
            return tenant_of_scope(entity_id)
        case AuditEvent():
            return None if entity_id == "-" else entity_id
    return None


def matches(entry: AuditEntry, tenant: str | None, actor: str | None, until: datetime | None = None) -> bool:
    """Whether an entry is about a tenant (done to it, or by it), and by an actor; None: any."""
    who = entry.actor
    return (
        (tenant is None or entry.tenant == tenant or (who is not None and who.tenant == tenant))
        and (actor is None or (who is not None and who.id == actor))
        and (until is None or entry.at < until)
    )
