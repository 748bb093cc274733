"""Bodies and replies of the routes of webhooks, as values."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from dreamforge.contracts.deliveries import Deliveries
from dreamforge.contracts.models.descriptor import Value
from dreamforge.contracts.webhook_events import (
    DeliveryDropped,
    DeliveryFailed,
    DeliveryParked,
    DeliveryReplayed,
    DeliverySucceeded,
    JobDelivery,
)
from dreamforge.contracts.webhooks import DEFAULT_KINDS, KINDS, WebhookState

OVERLAP_SECONDS, OVERLAP_SECONDS_MAX = 86_400, 30 * 86_400


def _known_kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"must be one of {', '.join(KINDS)}")
    return kind


Kind = Annotated[str, AfterValidator(_known_kind), Field(json_schema_extra={"enum": list(KINDS)})]
Status = Literal["succeeded", "failed", "parked", "dropped", "replayed"]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]


class WebhookRequest(BaseModel):
    """Where events of jobs are to be sent, and which."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(min_length=8, max_length=2_000, description="https://, and no address of an internal network")
    kinds: tuple[Kind, ...] = Field(default=DEFAULT_KINDS, min_length=1, max_length=len(KINDS))
    job_id: JobId | None = Field(default=None, description="only events of this job; null: of every job of the tenant")
    name: str = Field(default="", max_length=200)


class SecretRotation(BaseModel):
    """For how long the secrets of today go on signing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    overlap_seconds: int = Field(default=OVERLAP_SECONDS, ge=0, le=OVERLAP_SECONDS_MAX)


class ReplayRequest(BaseModel):
    """What is to be sent again. Nothing named: everything that is parked."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    job_id: JobId | None = Field(default=None, description="only what is parked of this job")
    sequence: int | None = Field(default=None, ge=1, description="with job_id: this event, parked or not")


class WebhookReply(Value):
    """A webhook, without its secrets."""

    webhook_id: str
    tenant: str
    url: str
    kinds: tuple[str, ...]
    job_id: str | None
    name: str
    created_at: datetime
    ended_at: datetime | None = Field(description="of one job: when all of it had arrived; nothing is sent any more")
    secrets: tuple[datetime | None, ...] = Field(description="until when each one signs; null: the current one")
    failing_jobs: int = Field(description="jobs of which a delivery is tried again")
    parked: int = Field(description="deliveries that are not tried again until they are replayed")

    @classmethod
    def of(cls, webhook_id: str, state: WebhookState, deliveries: Deliveries, now: datetime) -> "WebhookReply":
        """A webhook that exists."""
        created = state.created
        assert created is not None, "only webhooks that exist are shown"
        return cls(
            webhook_id=webhook_id,
            tenant=created.tenant,
            url=created.url,
            kinds=created.kinds,
            job_id=created.job_id,
            name=created.name,
            created_at=created.at,
            ended_at=state.ended_at,
            secrets=tuple(secret.until for secret in state.signing(now)),
            failing_jobs=sum(queue.retry_at is not None for queue in deliveries.queues.values()),
            parked=len(deliveries.parked),
        )


class WebhookSecretReply(WebhookReply):
    """A webhook with its new secret, which is shown this once."""

    secret: str = Field(description="whsec_ and base64, as the libraries of Standard Webhooks take it")

    @classmethod
    def with_secret(cls, shown: WebhookReply, secret: str) -> "WebhookSecretReply":
        """The reply to who has made or rotated it."""
        return cls(**shown.model_dump(), secret=secret)


class WebhooksReply(Value):
    """The webhooks of a tenant that send, the oldest first."""

    webhooks: tuple[WebhookReply, ...]


class DeliveryReply(Value):
    """One thing that happened to a delivery."""

    at: datetime
    status: Status
    job_id: str
    sequence: int = Field(description="of the event, in the log")
    kind: str | None
    attempts: int | None
    http_status: int | None
    elapsed_seconds: float | None
    reason: str | None
    retry_at: datetime | None

    @classmethod
    def of(cls, event: JobDelivery) -> "DeliveryReply":
        """An event of the delivery log."""
        known = event.model_dump()
        names = ("kind", "attempts", "elapsed_seconds", "reason", "retry_at")
        return cls(
            at=event.at,
            status=_STATUSES[type(event)],
            job_id=event.job_id,
            sequence=event.sequence,
            http_status=known.get("status"),
            **{name: known.get(name) for name in names},
        )


_STATUSES: dict[type[JobDelivery], Status] = {
    DeliverySucceeded: "succeeded",
    DeliveryFailed: "failed",
    DeliveryParked: "parked",
    DeliveryDropped: "dropped",
    DeliveryReplayed: "replayed",
}


class DeliveriesReply(Value):
    """What happened to deliveries, the newest first, as far as this gateway keeps it in memory."""

    deliveries: tuple[DeliveryReply, ...]


class ReplayReply(Value):
    """How many deliveries are made again."""

    replayed: int
