"""The facts about an installation: runners, models, queues, keys, tenants, unreadable messages. And all events."""

from typing import Literal

from pydantic import AwareDatetime, Field

from dreamforge.contracts.events import JOB_EVENTS, Event, StepProgressed
from dreamforge.contracts.fleet import Device
from dreamforge.contracts.models.descriptor import ModelDescriptor, Sha256, Token, is_none, is_zero
from dreamforge.contracts.quotas import WEIGHT_MAX, Quotas
from dreamforge.contracts.request.values import Determinism
from dreamforge.contracts.webhook_events import WEBHOOK_EVENTS


class RunnerEvent(Event):
    """A fact about a runner, on `forge.runners.{runner_id}.{TOKEN}`."""

    instance_id: str


class RunnerRegistered(RunnerEvent):
    """A runner process started and stated what it found."""

    TYPE = "dreamforge.runner.registered.v1"
    TOKEN = "registered"
    renderer: str
    device: Device
    slots: int = Field(ge=1)
    model_ids: tuple[str, ...]


class RunnerStopped(RunnerEvent):
    """A runner left on purpose."""

    TYPE = "dreamforge.runner.stopped.v1"
    TOKEN = "stopped"
    reason: str = "shutdown"


class RunnerLost(RunnerEvent):
    """A runner was silent past its lease."""

    TYPE = "dreamforge.runner.lost.v1"
    TOKEN = "lost"
    silent_seconds: float = Field(ge=0)


class ModelEvent(Event):
    """A fact about a model, on `forge.models.{model_id}.{TOKEN}`."""


class ModelRegistered(ModelEvent):
    """A model can be asked for: this is what it is, needs and offers."""

    TYPE = "dreamforge.model.registered.v1"
    TOKEN = "registered"
    descriptor: ModelDescriptor
    by_hand: bool = Field(
        default=False, exclude_if=is_zero, description="whether a person registered it, and not a runner what it found"
    )


class ModelVerified(ModelEvent):
    """Every file of a model was read, and is what its descriptor states."""

    TYPE = "dreamforge.model.verified.v1"
    TOKEN = "verified"
    digest: Sha256
    size_bytes: int = Field(ge=0)
    verified_by: str = Field(description="the host whose files were read")


class ModelRemoved(ModelEvent):
    """A model can no longer be asked for; jobs that were promised it still get it where it is."""

    TYPE = "dreamforge.model.removed.v1"
    TOKEN = "removed"
    removed_by: str = "operator"


class QueueEvent(Event):
    """A fact about a queue, on `forge.queues.{scope}.{TOKEN}`: that of one tenant, or all of the fleet."""

    requested_by: str = "operator"


class QueueHeld(QueueEvent):
    """No job of these queues is assigned until they are released; attempts that runners have go on."""

    TYPE = "dreamforge.queue.held.v1"
    TOKEN = "held"


class QueueReleased(QueueEvent):
    """Jobs of these queues may be assigned again."""

    TYPE = "dreamforge.queue.released.v1"
    TOKEN = "released"


class KeyEvent(Event):
    """A fact about an API key, on `forge.keys.{key_id}.{TOKEN}`."""


class KeyCreated(KeyEvent):
    """The owner of the secret may act for the tenant, within the scopes, until the key expires or is revoked."""

    TYPE = "dreamforge.key.created.v1"
    TOKEN = "created"
    name: str = Field(max_length=200, description="what its owner calls it")
    secret_sha256: Sha256
    tenant: Token
    scopes: tuple[Literal["read", "submit", "admin"], ...] = Field(min_length=1)
    expires_at: AwareDatetime | None = None
    created_by: str = "operator"


class KeyRevoked(KeyEvent):
    """The key is refused from now on."""

    TYPE = "dreamforge.key.revoked.v1"
    TOKEN = "revoked"
    revoked_by: str = "operator"


class TenantEvent(Event):
    """A fact about a tenant, on `forge.tenants.{tenant}.{TOKEN}`."""


class TenantConfigured(TenantEvent):
    """What a tenant may use from now on; a quota that is null is that of the installation."""

    TYPE = "dreamforge.tenant.configured.v1"
    TOKEN = "configured"
    quotas: Quotas
    weight: int = Field(ge=1, le=WEIGHT_MAX, description="its share of the fleet, beside those of other tenants")
    configured_by: str = "operator"
    selected_model: Token | None = Field(
        default=None,
        exclude_if=is_none,
        description="the model of requests over interfaces that select one first and name none later",
    )
    metadata: Literal["none"] | None = Field(
        default=None,
        exclude_if=is_none,
        description="none: downloads of its pictures are without their recipes, where a request does not ask for them",
    )
    determinism: Determinism | None = Field(
        default=None,
        exclude_if=is_none,
        description="of requests that do not say: strict, or batched whatever their preset says",
    )


class AuditEvent(Event):
    """What no other fact tells of who did what, on `forge.audit.{tenant}.{TOKEN}`; "-" where the tenant is not known.

    Who it was, and from where, is in the envelope, as of every event.
    """


class SignedIn(AuditEvent):
    """A browser began a session."""

    TYPE = "dreamforge.audit.signed-in.v1"
    TOKEN = "signed-in"
    method: Literal["key", "oidc"]


class CredentialRefused(AuditEvent):
    """A key, token or session was refused, at an address; at most one event a minute for each."""

    TYPE = "dreamforge.audit.credential-refused.v1"
    TOKEN = "credential-refused"
    method: Literal["key", "token", "session", "oidc"]
    reason: str = Field(max_length=300)
    times: int = Field(default=1, ge=1, description="with those since the event before")


class AddressFirstUsed(AuditEvent):
    """A credential was used from an address from which it was not used before, as far as the audit goes back."""

    TYPE = "dreamforge.audit.address-first-used.v1"
    TOKEN = "address-first-used"


class TenantRead(AuditEvent):
    """An admin read what belongs to another tenant; at most one event an hour for each admin and tenant."""

    TYPE = "dreamforge.audit.tenant-read.v1"
    TOKEN = "tenant-read"
    tenant: Token | None = Field(default=None, description="null: a list of all tenants")
    job_id: str | None = Field(default=None, description="the first job that was read")


class MessageParked(Event):
    """A message that could not be read was set aside with the reason, so that the stream goes on."""

    TYPE = "dreamforge.message.parked.v1"
    TOKEN = "parked"
    stream: str
    sequence: int
    subject: str
    service: str
    reason: str
    headers: dict[str, str] = {}
    data: bytes = b""
    deliveries: int = Field(default=1, ge=1, description="how often it was tried")


class ParkedSettled(Event):
    """An operator settled a parked message: it is to be read once more, or dropped."""

    TYPE = "dreamforge.parked.settled.v1"
    TOKEN = "settled"
    parked_sequence: int = Field(ge=1, description="place of the MessageParked in the stream PARKED")
    action: Literal["retry", "drop"]
    settled_by: str = "operator"


EVENTS: tuple[type[Event], ...] = (
    *JOB_EVENTS,
    StepProgressed,
    RunnerRegistered,
    RunnerStopped,
    RunnerLost,
    ModelRegistered,
    ModelVerified,
    ModelRemoved,
    QueueHeld,
    QueueReleased,
    KeyCreated,
    KeyRevoked,
    TenantConfigured,
    SignedIn,
    CredentialRefused,
    AddressFirstUsed,
    TenantRead,
    MessageParked,
    ParkedSettled,
    *WEBHOOK_EVENTS,
)
