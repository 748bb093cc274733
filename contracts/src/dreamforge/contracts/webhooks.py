"""Webhooks: whose they are, what they ask for, and with which secrets they are signed: the webhook aggregate. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from dreamforge.contracts.errors import Conflict, WebhookKeyUsed, WebhookNotFound
from dreamforge.contracts.events import ERASURE_EVENTS, JOB_EVENTS, TERMINAL_EVENTS, JobArchived, JobEvent
from dreamforge.contracts.webhook_events import (
    SealedSecret,
    WebhookCreated,
    WebhookDeleted,
    WebhookEnded,
    WebhookEvent,
    WebhookSecretRotated,
)

# Each one lengthens the signature header by 50 bytes; receivers need two at a time.
SECRETS_MAX = 5


def kind_of(event: type[JobEvent]) -> str:
    """What a receiver calls an event.

    >>> from dreamforge.contracts.events import JobSucceeded
    >>> kind_of(JobSucceeded)
    'job.succeeded'
    """
    return event.TYPE.removeprefix("dreamforge.").rpartition(".")[0]


KINDS: dict[str, type[JobEvent]] = {
    kind_of(event): event for event in JOB_EVENTS if event not in (*ERASURE_EVENTS, JobArchived)
}
DEFAULT_KINDS = tuple(kind_of(event) for event in TERMINAL_EVENTS)


@dataclass(frozen=True, slots=True)
class WebhookState:
    """One webhook, folded. `secrets`: the newest first."""

    created: WebhookCreated | None = None
    secrets: tuple[SealedSecret, ...] = ()
    deleted_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def sends(self) -> bool:
        """Whether anything can be sent to it yet."""
        return self.created is not None and self.deleted_at is None and self.ended_at is None

    def wants(self, tenant: str, job_id: str, kind: str) -> bool:
        """Whether events of this kind, of this job, are sent to it."""
        created = self.created
        return (
            created is not None
            and self.sends
            and created.tenant == tenant
            and created.job_id in (None, job_id)
            and kind in created.kinds
        )

    def signing(self, now: datetime) -> tuple[SealedSecret, ...]:
        """The secrets that sign at a time."""
        return tuple(secret for secret in self.secrets if secret.until is None or secret.until > now)


@dataclass(frozen=True, slots=True)
class CreateWebhook:
    """Events are sent from now on: those that come after `from_sequence` in JOBS."""

    now: datetime
    tenant: str
    url: str
    kinds: tuple[str, ...]
    from_sequence: int
    sealed: str
    job_id: str | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class RotateWebhookSecret:
    """Another secret signs; those of today go on for `overlap_seconds`."""

    now: datetime
    sealed: str
    overlap_seconds: float


@dataclass(frozen=True, slots=True)
class DeleteWebhook:
    """Nothing is sent any more. It cannot be undone."""

    now: datetime


@dataclass(frozen=True, slots=True)
class EndWebhook:
    """The job that it was for is over, and its events have arrived."""

    now: datetime


WebhookCommand = CreateWebhook | RotateWebhookSecret | DeleteWebhook | EndWebhook


def decide_webhook(webhook_id: str, state: WebhookState, command: WebhookCommand) -> tuple[WebhookEvent, ...]:
    """What follows from a command; nothing from a repeat, or where a webhook ends that does not send any more.

    Errors: WebhookKeyUsed (the id, which follows from an Idempotency-Key, is that of another request), WebhookNotFound,
    Conflict (it has ended; too many secrets).
    """
    if isinstance(command, CreateWebhook):
        if state.created is not None:
            _require_repeat(webhook_id, state, command)
            return ()
        return (
            WebhookCreated(
                at=command.now,
                tenant=command.tenant,
                url=command.url,
                kinds=command.kinds,
                job_id=command.job_id,
                name=command.name,
                from_sequence=command.from_sequence,
                secret=SealedSecret(sealed=command.sealed),
            ),
        )
    if isinstance(command, EndWebhook):
        return (WebhookEnded(at=command.now, tenant=state.created.tenant),) if state.created and state.sends else ()
    if state.created is None or state.deleted_at is not None:
        raise WebhookNotFound(webhook_id=webhook_id)
    if isinstance(command, DeleteWebhook):
        return (WebhookDeleted(at=command.now, tenant=state.created.tenant),)
    if state.ended_at is not None:
        raise Conflict(f"webhook {webhook_id} has ended with its job: there is nothing more to sign")
    ends = command.now + timedelta(seconds=command.overlap_seconds)
    earlier = tuple(
        SealedSecret(sealed=secret.sealed, until=min(ends, secret.until or ends))
        for secret in (state.signing(command.now) if command.overlap_seconds else ())
    )
    if len(earlier) >= SECRETS_MAX:
        raise Conflict(
            f"{len(earlier)} secrets sign already; rotate again when one of them has ended, or with overlap 0"
        )
    secrets = (SealedSecret(sealed=command.sealed), *earlier)
    return (WebhookSecretRotated(at=command.now, tenant=state.created.tenant, secrets=secrets),)


def _require_repeat(webhook_id: str, state: WebhookState, command: CreateWebhook) -> None:
    """Whether the command asks again for what there is, as it was made. Errors: WebhookKeyUsed."""
    created = state.created
    assert created is not None, "only what exists can be asked for again"
    made = (created.tenant, created.url, created.kinds, created.job_id, created.name)
    if made != (command.tenant, command.url, command.kinds, command.job_id, command.name):
        raise WebhookKeyUsed(webhook_id=webhook_id, why="from a different request")
    if state.deleted_at is not None:
        raise WebhookKeyUsed(webhook_id=webhook_id, why="which was deleted")
    if state.secrets and state.secrets[0].sealed != created.secret.sealed:
        raise WebhookKeyUsed(webhook_id=webhook_id, why="whose secret was replaced since")


def evolve_webhook(state: WebhookState, event: WebhookEvent) -> WebhookState:
    """The state after one more fact. Errors: TypeError for an event that is not of this aggregate."""
    match event:
        case WebhookCreated():
            return state if state.created else WebhookState(event, (event.secret,))
        case WebhookSecretRotated():
            return replace(state, secrets=event.secrets)
        case WebhookDeleted():
            return replace(state, deleted_at=event.at, secrets=())
        case WebhookEnded():
            return replace(state, ended_at=event.at)
    raise TypeError(type(event).__name__)
