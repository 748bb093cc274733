"""Webhooks of a tenant: created, listed, rotated, deleted, replayed, and what became of deliveries."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.deliveries import RECENT_MAX
from dreamforge.contracts.errors import Conflict, JobNotFound, WebhookKeyUsed, WebhookNotFound
from dreamforge.contracts.log.envelope import seal
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.webhook_events import DeliveryReplayed
from dreamforge.contracts.webhooks import CreateWebhook, DeleteWebhook, RotateWebhookSecret, WebhookState, kind_of
from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import actor_of, identity_of
from dreamforge.gateway.http.errors import InvalidRequest, Violation, WebhooksFull, WebhooksOff
from dreamforge.gateway.http.middleware import context_of
from dreamforge.gateway.routes.common import BoundedBodyRoute, dependencies_of, key_of, reply, tenant_of, visible_job
from dreamforge.gateway.webhooks.address import checked_url
from dreamforge.gateway.webhooks.replies import (
    DeliveriesReply,
    DeliveryReply,
    ReplayReply,
    ReplayRequest,
    SecretRotation,
    Status,
    WebhookReply,
    WebhookRequest,
    WebhookSecretReply,
    WebhooksReply,
)
from dreamforge.gateway.webhooks.signing import opened_secrets, seal_of, sealed_secret, written_secret
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.aggregate import WEBHOOK
from dreamforge.runtime.log.bus import ack
from dreamforge.runtime.log.follow import last_sequence

if TYPE_CHECKING:
    from dreamforge.gateway.identity.seals import Seal

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=BoundedBodyRoute)
WebhookId = Annotated[str, Path(json_schema_extra={"pattern": "^[0-9a-z]{10}$"})]
REPLAYS_MAX = 1_000


@router.post(
    "",
    status_code=201,
    response_model=WebhookSecretReply,
    responses={
        201: {
            "headers": doc.IDS
            | {
                "Location": {"schema": {"type": "string"}, "description": "the webhook"},
                "Idempotent-Replayed": {"schema": {"type": "string"}, "description": "true if the webhook existed"},
            },
        },
        **doc.problems(400, 404, 409, 413, 415, 422, 429, 503),
    },
    openapi_extra={"parameters": [doc.WEBHOOK_KEY]},
)
async def create_webhook(request: Request, asked: Annotated[WebhookRequest, Body()]) -> Response:
    """Send events of jobs to a URL from now on. The answer shows the secret that signs them, this once.

    With a job_id it ends by itself when the job is over and all of it has arrived.
    """
    dependencies, tenant = dependencies_of(request), tenant_of(request)
    webhook_id = ids.webhook_id_for(tenant, key_of(request))
    seal = seal_of(_key(dependencies), webhook_id)
    known = await dependencies.store.read(WEBHOOK, webhook_id)
    command = await _creation(request, asked, seal, is_new=known.state.created is None)
    outcome = await dependencies.store.handle(WEBHOOK, webhook_id, command, known=known, **_said(request))
    replayed = {} if outcome.events else {"Idempotent-Replayed": "true"}
    headers = {"Location": _path(webhook_id)} | replayed
    return reply(_with_secret(dependencies, webhook_id, outcome.state, seal), 201, headers)


async def _creation(request: Request, asked: WebhookRequest, seal: "Seal", *, is_new: bool) -> CreateWebhook:
    """The command, after every check. A repeat needs no room of its own. Errors: JobNotFound, WebhooksFull."""
    dependencies, tenant = dependencies_of(request), tenant_of(request)
    url = checked_url(asked.url, dependencies.outgoing_rule, allow_http=dependencies.settings.gateway_webhook_http)
    if asked.job_id is not None:
        await _require_job_of(request, asked.job_id, tenant)
    maximum = dependencies.settings.gateway_webhooks
    if is_new and len(_webhooks_of(dependencies, tenant)) >= maximum:
        raise WebhooksFull(maximum=maximum)
    return CreateWebhook(
        now=clock.now(),
        tenant=tenant,
        url=url,
        kinds=tuple(dict.fromkeys(asked.kinds)),
        from_sequence=await last_sequence(dependencies.log.bus, JOBS.name),
        sealed=sealed_secret(seal, ids.new_signing_secret()),
        job_id=asked.job_id,
        name=asked.name,
    )


@router.get("", response_model=WebhooksReply, responses=doc.problems(400, 503))
async def list_webhooks(request: Request) -> Response:
    """The webhooks of the tenant that send. An administrator names another tenant in Forge-Tenant."""
    dependencies = dependencies_of(request)
    found = _webhooks_of(dependencies, tenant_of(request))
    return reply(WebhooksReply(webhooks=tuple(_shown(dependencies, each, state) for each, state in found.items())))


@router.get("/{webhook_id}", response_model=WebhookReply, responses=doc.problems(404, 422, 503))
async def read_webhook(request: Request, webhook_id: WebhookId) -> Response:
    """A webhook, and how its deliveries go."""
    state = await _visible(request, webhook_id)
    return reply(_shown(dependencies_of(request), webhook_id, state))


@router.delete("/{webhook_id}", status_code=204, response_class=Response, responses=doc.problems(404, 422, 503))
async def delete_webhook(request: Request, webhook_id: WebhookId) -> Response:
    """Send nothing more, and drop what waits. It cannot be undone."""
    await _visible(request, webhook_id)
    command = DeleteWebhook(clock.now())
    await dependencies_of(request).store.handle(WEBHOOK, webhook_id, command, **_said(request))
    return Response(status_code=204)


@router.post(
    "/{webhook_id}/rotate", response_model=WebhookSecretReply, responses=doc.problems(400, 404, 409, 413, 415, 422, 503)
)
async def rotate_secret(
    request: Request, webhook_id: WebhookId, rotation: Annotated[SecretRotation, Body()] = SecretRotation()
) -> Response:
    """Sign with a new secret, shown this once; the earlier ones sign beside it for a while."""
    await _visible(request, webhook_id)
    dependencies = dependencies_of(request)
    seal = seal_of(_key(dependencies), webhook_id)
    sealed = sealed_secret(seal, ids.new_signing_secret())
    command = RotateWebhookSecret(clock.now(), sealed, rotation.overlap_seconds)
    outcome = await dependencies.store.handle(WEBHOOK, webhook_id, command, **_said(request))
    return reply(_with_secret(dependencies, webhook_id, outcome.state, seal))


@router.get("/{webhook_id}/deliveries", response_model=DeliveriesReply, responses=doc.problems(404, 422, 503))
async def list_deliveries(
    request: Request,
    webhook_id: WebhookId,
    status: Annotated[Status | None, Query(description="parked: those that are not tried again")] = None,
    limit: Annotated[int, Query(ge=1, le=RECENT_MAX)] = 50,
) -> Response:
    """What happened to deliveries, the newest first: the log of them is the stream DELIVERIES."""
    await _visible(request, webhook_id)
    deliveries = dependencies_of(request).deliveries_to(webhook_id)
    found = deliveries.parked.values() if status == "parked" else deliveries.recent
    replies = [DeliveryReply.of(event) for event in reversed(tuple(found))]
    chosen = [each for each in replies if status in (None, each.status)]
    return reply(DeliveriesReply(deliveries=tuple(chosen[:limit])))


@router.post(
    "/{webhook_id}/replay", response_model=ReplayReply, responses=doc.problems(400, 404, 409, 413, 415, 422, 503)
)
async def replay(
    request: Request, webhook_id: WebhookId, asked: Annotated[ReplayRequest, Body()] = ReplayRequest()
) -> Response:
    """Send again what is parked, at most 1,000 at once; or one event of a job, parked or not."""
    state, dependencies = await _visible(request, webhook_id), dependencies_of(request)
    if state.ended_at is not None:
        raise Conflict(f"webhook {webhook_id} has ended with its job: one of all jobs can send its events again")
    if asked.sequence is not None:
        found = [await _event_of(dependencies, state, asked)]
    else:
        parked = dependencies.deliveries_to(webhook_id).parked.values()
        found = [(each.job_id, each.sequence, each.kind) for each in parked if asked.job_id in (None, each.job_id)]
    for job_id, sequence, kind in found[:REPLAYS_MAX]:
        event = DeliveryReplayed(at=clock.now(), job_id=job_id, sequence=sequence, kind=kind)
        envelope = seal(
            event,
            entity_id=webhook_id,
            event_id=ids.new_id(),
            source=dependencies.source,
            traceparent=context_of(request).traceparent,
            actor=actor_of(request),
        )
        ack(await dependencies.log.bus.ask(envelope.subject, envelope.data, envelope.headers))
    return reply(ReplayReply(replayed=len(found[:REPLAYS_MAX])))


async def _event_of(dependencies: Dependencies, state: WebhookState, asked: ReplayRequest) -> tuple[str, int, str]:
    """The event that a client names. Errors: InvalidRequest, JobNotFound."""
    assert state.created is not None
    if asked.job_id is None:
        raise InvalidRequest(violations=(Violation("is needed with sequence", "/job_id"),))
    loaded = await dependencies.store.load(asked.job_id)
    if loaded.state.tenant != state.created.tenant or loaded.state.hidden:
        raise JobNotFound(job_id=asked.job_id)
    for recorded in loaded.history:
        kind = kind_of(type(recorded.event))  # type: ignore[arg-type]  # of a job
        if recorded.sequence == asked.sequence and state.wants(loaded.state.tenant, asked.job_id, kind):
            return asked.job_id, recorded.sequence, kind
    wanted = ", ".join(state.created.kinds)
    raise InvalidRequest(violations=(Violation(f"must be of an event of that job of {wanted}", "/sequence"),))


async def _require_job_of(request: Request, job_id: str, tenant: str) -> None:
    """Errors: JobNotFound, also for a job of another tenant than the webhook's."""
    await visible_job(request, job_id)
    if await dependencies_of(request).tenant_of_job(job_id) != tenant:
        raise JobNotFound(job_id=job_id)


async def _visible(request: Request, webhook_id: str) -> WebhookState:
    """A webhook that the sender may see. Errors: WebhookNotFound, for another tenant's as for one that is not there."""
    if not (len(webhook_id) <= 64 and webhook_id.isascii() and webhook_id.isalnum()):
        raise WebhookNotFound(webhook_id=webhook_id[:64])
    state = (await dependencies_of(request).store.read(WEBHOOK, webhook_id)).state
    sees = identity_of(request).sees
    if state.created is None or state.deleted_at is not None or sees not in (None, state.created.tenant):
        raise WebhookNotFound(webhook_id=webhook_id)
    return state


def _webhooks_of(dependencies: Dependencies, tenant: str) -> dict[str, WebhookState]:
    return {
        webhook_id: state
        for webhook_id, state in dependencies.webhooks().items()
        if state.created is not None and state.created.tenant == tenant
    }


def _key(dependencies: Dependencies) -> str:
    """Errors: WebhooksOff."""
    key = dependencies.settings.gateway_webhook_key.get_secret_value()
    if not key:
        raise WebhooksOff
    return str(key)


def _path(webhook_id: str) -> str:
    return f"/v1/webhooks/{webhook_id}"


def _shown(dependencies: Dependencies, webhook_id: str, state: WebhookState) -> WebhookReply:
    return WebhookReply.of(webhook_id, state, dependencies.deliveries_to(webhook_id), clock.now())


def _with_secret(dependencies: Dependencies, webhook_id: str, state: WebhookState, seal: "Seal") -> WebhookSecretReply:
    """With its newest secret. Errors: WebhookKeyUsed where a repeat cannot be told it any more."""
    found = opened_secrets(seal, state.secrets[:1], clock.now())
    if not found:
        raise WebhookKeyUsed(
            webhook_id=webhook_id, why="whose secret was sealed with another FORGE_GATEWAY_WEBHOOK_KEY"
        )
    return WebhookSecretReply.with_secret(_shown(dependencies, webhook_id, state), written_secret(found[0]))


def _said(request: Request) -> dict[str, Any]:  # Any: options of `EventStore.handle`
    return {"traceparent": context_of(request).traceparent, "actor": actor_of(request)}
