"""The events of all jobs of a tenant on one connection."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.quotas import Quota
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.events.tenant_stream import TenantEvents, open_tenant_stream
from dreamforge.gateway.http.authentication import identity_of
from dreamforge.gateway.routes.common import LastEvent, dependencies_of, tenant_of

router = APIRouter(prefix="/v1/events", tags=["jobs"])


@router.get(
    "",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events of all jobs of the tenant, as those of one job, in the order of the "
            "log, with live steps of the jobs that run. The first block has only an `id`: where the stream begins. It "
            "does not end; comments keep it alive. Jobs that are deleted are left out.",
            "headers": doc.IDS,
            "content": {"text/event-stream": doc.EVENT},
        },
        **doc.problems(400, 422, 429, 503),
    },
)
async def watch_tenant(
    request: Request,
    cursor: LastEvent,
    only: Annotated[
        str | None,
        Query(
            description="short names of the events that are wanted, with commas between them, for example "
            "succeeded,failed; default: all, and steps",
            pattern=f"^({doc.EVENT_NAMES})(,({doc.EVENT_NAMES}))*$",
        ),
    ] = None,
) -> Response:
    """What happens to all of your jobs: from now on, or after the last event you received."""
    dependencies, tenant, identity = dependencies_of(request), tenant_of(request), identity_of(request)
    if identity.sees is None and identity.credential:
        dependencies.audit.tenant_read(request.scope, identity, tenant)
    dependencies.quotas.hold(tenant, Quota.STREAMS)
    return await open_tenant_stream(
        dependencies.log.hub,
        dependencies.database,
        dependencies.tenant_feed,
        TenantEvents(tenant, frozenset(only.split(",")) if only else frozenset()),
        cursor,
        partial(dependencies.quotas.release, tenant, Quota.STREAMS),
    )
