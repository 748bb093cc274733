"""Who did what, and from where; for admins."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.models.descriptor import Token
from dreamforge.contracts.tenant_replies import AuditReply
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.errors import InvalidRequest, Violation
from dreamforge.gateway.routes.common import dependencies_of, reply
from dreamforge.runtime import clock
from dreamforge.runtime.log.audit_reader import AuditCursor, AuditReader

router = APIRouter(tags=["access"])
SINCE = timedelta(days=1)
PAGE_DEFAULT, PAGE_MAX = 100, 1000


def _no_number(value: object) -> object:
    """Seconds since 1970 are no date of RFC 3339, which the document promises."""
    if isinstance(value, str) and "-" not in value[1:]:
        raise ValueError("must be a date and time with its zone, such as 2026-01-31T12:00:00Z")
    return value


class AuditQuery(BaseModel):
    """Which entries."""

    model_config = ConfigDict(extra="forbid")

    since: Annotated[AwareDatetime | None, BeforeValidator(_no_number)] = Field(
        default=None, description="from this time on; left out: a day ago"
    )
    tenant: Token | None = Field(default=None, description="done to it, or by it")
    actor: str | None = Field(default=None, max_length=255, description="id of a key, or subject of a sign-in")
    cursor: str | None = Field(default=None, max_length=1000, description="next_cursor of the page before")
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX)


@router.get("/v1/audit", response_model=AuditReply, responses=doc.problems(400, 422, 503))
async def read_audit(request: Request, query: Annotated[AuditQuery, Query()]) -> Response:
    """Who did what, and from where: jobs, keys, models, queues, tenants, sign-ins, refused credentials."""
    try:
        cursor = AuditCursor.decode(query.cursor) if query.cursor else AuditCursor(query.since or clock.now() - SINCE)
    except ValueError:
        wrong = Violation("must be the next_cursor of a page", parameter="cursor")
        raise InvalidRequest(violations=(wrong,)) from None
    log = dependencies_of(request).log
    reader = AuditReader(log.bus, log.hub.archive)
    page = await reader.page(cursor, limit=query.limit, tenant=query.tenant, actor=query.actor)
    return reply(AuditReply(entries=page.entries, next_cursor=page.cursor.encode(), more=page.more))
