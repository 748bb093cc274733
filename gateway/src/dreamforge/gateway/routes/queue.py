"""Queues: hold and release all waiting jobs of a tenant, or of the fleet."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.access import Identity, Scope
from dreamforge.contracts.models.descriptor import Token
from dreamforge.contracts.queue_control import HoldQueue, QueueCommand, ReleaseQueue, scope_of, tenant_of_scope
from dreamforge.contracts.replies import QueueHoldReply, QueueReply
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import actor_of, identity_of
from dreamforge.gateway.http.errors import ScopeNeeded
from dreamforge.gateway.http.middleware import context_of
from dreamforge.gateway.routes.common import BoundedBodyRoute, dependencies_of, reply, reply_if_changed
from dreamforge.runtime import clock
from dreamforge.runtime.log.aggregate import QUEUE

router = APIRouter(prefix="/v1/queue", tags=["queue"], route_class=BoundedBodyRoute)


class QueueChoice(BaseModel):
    """Which queue."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    tenant: Annotated[Token | None, Field(description="null or left out: every queue")] = None


Choice = Annotated[QueueChoice, Body()]
EVERY_QUEUE = QueueChoice()


@router.get("", response_model=QueueReply, responses=doc.UNCHANGED | doc.problems(503))
async def read_queue(request: Request) -> Response:
    """Which queues are held, and since when."""
    held = dependencies_of(request).held_queues()
    return reply_if_changed(request, _reply(_visible(held, identity_of(request))))


def _visible(held: Mapping[str, datetime], identity: Identity) -> dict[str, datetime]:
    """The holds that concern a tenant: its own, and that of every queue."""
    if identity.sees is None:
        return dict(held)
    return {scope: since for scope, since in held.items() if tenant_of_scope(scope) in (None, identity.sees)}


@router.post("/hold", response_model=QueueReply, responses=doc.problems(400, 403, 413, 415, 422, 503))
async def hold_queue(request: Request, choice: Choice = EVERY_QUEUE) -> Response:
    """Assign no job of a tenant, or no job at all, until a release. Attempts that run go on; deadlines count."""
    return await _execute(request, choice, HoldQueue(clock.now()))


@router.post("/release", response_model=QueueReply, responses=doc.problems(400, 403, 413, 415, 422, 503))
async def release_queue(request: Request, choice: Choice = EVERY_QUEUE) -> Response:
    """Assign the jobs of a tenant, or all jobs, again. A tenant's own hold outlasts a release of every queue."""
    return await _execute(request, choice, ReleaseQueue(clock.now()))


async def _execute(request: Request, choice: QueueChoice, command: QueueCommand) -> Response:
    """The state after the command, whether this gateway has read its event back or not."""
    dependencies, identity = dependencies_of(request), identity_of(request)
    if identity.sees is not None and choice.tenant != identity.sees:
        raise ScopeNeeded(scope=Scope.ADMIN.value)
    scope = scope_of(choice.tenant)
    traceparent = context_of(request).traceparent
    actor = actor_of(request)
    outcome = await dependencies.store.handle(QUEUE, scope, command, traceparent=traceparent, actor=actor)
    held = {name: since for name, since in dependencies.held_queues().items() if name != scope}
    if outcome.state.held_since is not None:
        held[scope] = outcome.state.held_since
    return reply(_reply(_visible(held, identity)))


def _reply(held: Mapping[str, datetime]) -> QueueReply:
    names = sorted(held, key=lambda scope: (tenant_of_scope(scope) or "", scope))
    return QueueReply(held=tuple(QueueHoldReply(tenant=tenant_of_scope(each), held_since=held[each]) for each in names))
