"""The facts about webhooks: that they exist and with which secrets, and what became of each delivery."""

from pydantic import AwareDatetime, Field

from dreamforge.contracts.events import Event
from dreamforge.contracts.models.descriptor import Token, Value, is_none


class SealedSecret(Value):
    """A signing secret that only gateways can read: sealed with the key of the installation."""

    sealed: str = Field(max_length=1_000)
    until: AwareDatetime | None = Field(
        default=None, description="when it stops signing, because another has replaced it; null: it goes on"
    )


class WebhookEvent(Event):
    """A fact about a webhook, on `forge.webhooks.{webhook_id}.{TOKEN}`."""

    tenant: Token


class WebhookCreated(WebhookEvent):
    """Events of these kinds, of the tenant's jobs or of one of them, are sent to the URL from now on."""

    TYPE = "dreamforge.webhook.created.v1"
    TOKEN = "created"
    url: str = Field(max_length=2_000)
    kinds: tuple[str, ...] = Field(min_length=1, description="as job.succeeded")
    job_id: str | None = Field(default=None, description="null: every job of the tenant")
    name: str = Field(default="", max_length=200)
    from_sequence: int = Field(ge=0, description="the end of JOBS when it was created: what comes after it is sent")
    secret: SealedSecret


class WebhookSecretRotated(WebhookEvent):
    """A new secret signs, and the earlier ones beside it until they end."""

    TYPE = "dreamforge.webhook.secret-rotated.v1"
    TOKEN = "secret-rotated"
    secrets: tuple[SealedSecret, ...] = Field(min_length=1, description="every one that signs, the newest first")


class WebhookDeleted(WebhookEvent):
    """Nothing is sent any more, and what waited is dropped."""

    TYPE = "dreamforge.webhook.deleted.v1"
    TOKEN = "deleted"


class WebhookEnded(WebhookEvent):
    """All that it asked for of its one job has arrived, and the job is over: nothing more can come."""

    TYPE = "dreamforge.webhook.ended.v1"
    TOKEN = "ended"


class DeliveryEvent(Event):
    """What became of deliveries to a webhook, on `forge.deliveries.{webhook_id}.{TOKEN}`. No body is stored."""


class JobDelivery(DeliveryEvent):
    """Of one event of a job, which is named by its sequence in JOBS."""

    job_id: str
    sequence: int = Field(ge=1)
    until: int = Field(default=0, ge=0, description="the newest event of the job that was known to be sent after it")


class DeliverySucceeded(JobDelivery):
    """The receiver answered with a status of success."""

    TYPE = "dreamforge.delivery.succeeded.v1"
    TOKEN = "succeeded"
    kind: str
    attempts: int = Field(ge=1)
    status: int
    elapsed_seconds: float = Field(ge=0)


class DeliveryFailed(JobDelivery):
    """One attempt failed; the next one is due at `retry_at`."""

    TYPE = "dreamforge.delivery.failed.v1"
    TOKEN = "failed"
    kind: str
    attempts: int = Field(ge=1)
    reason: str = Field(max_length=500)
    failing_since: AwareDatetime = Field(description="the first failure after the last success, of this job")
    retry_at: AwareDatetime


class DeliveryParked(JobDelivery):
    """No further attempt is made until someone asks for it. The next event of the job is sent."""

    TYPE = "dreamforge.delivery.parked.v1"
    TOKEN = "parked"
    kind: str
    attempts: int = Field(ge=1)
    reason: str = Field(max_length=500)
    failing_since: AwareDatetime | None = Field(default=None, exclude_if=is_none)


class DeliveryDropped(JobDelivery):
    """Nothing of the job is to be sent up to this event: it was deleted, or erased from the log."""

    TYPE = "dreamforge.delivery.dropped.v1"
    TOKEN = "dropped"
    reason: str = Field(max_length=500)


class DeliveryReplayed(JobDelivery):
    """Someone asked for it to be sent again."""

    TYPE = "dreamforge.delivery.replayed.v1"
    TOKEN = "replayed"
    kind: str
    requested_by: str = "client"


class DeliveriesReached(DeliveryEvent):
    """Every event of JOBS up to this sequence is settled, or named by an event here: a restart continues after it."""

    TYPE = "dreamforge.delivery.reached.v1"
    TOKEN = "reached"
    sequence: int = Field(ge=0)


WEBHOOK_EVENTS: tuple[type[Event], ...] = (
    WebhookCreated,
    WebhookSecretRotated,
    WebhookDeleted,
    WebhookEnded,
    DeliverySucceeded,
    DeliveryFailed,
    DeliveryParked,
    DeliveryDropped,
    DeliveryReplayed,
    DeliveriesReached,
)
