"""What several routes need: the dependencies, checks of ids, consistency, replies."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, JsonValue
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from dreamforge.contracts.access import Identity
from dreamforge.contracts.errors import DependencyAway, JobNotFound
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.quotas import Quota
from dreamforge.contracts.replies import Accepted, Links, UploadReply
from dreamforge.contracts.request.workflow import Workflow
from dreamforge.contracts.tenant_replies import QuotaReply
from dreamforge.contracts.tenants import TenantState
from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.events.stream import open_stream
from dreamforge.gateway.http.authentication import READS, actor_of, identity_of
from dreamforge.gateway.http.byte_range import etag_of, is_known
from dreamforge.gateway.http.cursor import EVENT_ID_PATTERN, SEQUENCE_MAX, EventCursor
from dreamforge.gateway.http.errors import Malformed, SequenceNotGiven, SequenceOfOtherLog
from dreamforge.gateway.http.middleware import context_of
from dreamforge.gateway.http.root_path import root_of
from dreamforge.gateway.submit.submit import json_body_of, submit
from dreamforge.runtime.log.bus import ApiError
from dreamforge.runtime.log.event_store import JobOutcome
from dreamforge.runtime.log.follow import last_sequence

# An id goes into subjects and statements, so its form is checked before anything else.
_JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?", re.ASCII)
JOB_ID_CHARS = 36
# Of a body that needs no credential; a key has 60 characters.
PUBLIC_BODY_BYTES, PUBLIC_BODY_SECONDS = 4_096, 5.0
DEFAULT_TENANT = "default"
TENANT_EXPECTED = "1 to 64 letters, digits, _ or -"


def dependencies_of(request: Request) -> Dependencies:
    """The dependencies of the application."""
    dependencies: Dependencies = request.app.state.dependencies
    return dependencies


class BoundedBodyRoute(APIRoute):
    """A route whose body the framework parses, once it is known to be no larger than a body may be."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            body = await self.body_of(request)

            async def receive() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            return await handle(Request(request.scope, receive))

        return handle_bounded

    async def body_of(self, request: Request) -> bytes:
        """Errors: BodyTooLarge, UnsupportedMedia."""
        return await json_body_of(request, dependencies_of(request).limits.body_bytes)


class PublicBodyRoute(BoundedBodyRoute):
    """One that a client without a credential may send a body to: a small one, and soon."""

    async def body_of(self, request: Request) -> bytes:
        """Errors: HTTPException(408) too."""
        try:
            async with asyncio.timeout(PUBLIC_BODY_SECONDS):
                return await json_body_of(request, PUBLIC_BODY_BYTES)
        except TimeoutError:
            raise HTTPException(408, f"the body took longer than {PUBLIC_BODY_SECONDS:g} s") from None


async def of_this_log(request: Request) -> None:
    """Answer nothing from tables and log that do not belong together. Errors: OtherLog."""
    dependencies_of(request).same_log.require()


def known_shape(job_id: str) -> str:
    """The id, if it has the form of one. Errors: JobNotFound."""
    if _JOB_ID.fullmatch(job_id) is None:
        raise JobNotFound(job_id=job_id[:64])
    return job_id


async def visible_job(request: Request, job_id: str, *, hidden: bool = False) -> str:
    """The id, if there may be a job of that id which the sender may see: not another tenant's.

    `hidden`: also one that is going to be erased. Where the sender may see every tenant's, it is not looked up here.
    Errors: JobNotFound, for another tenant's job as for one that is not there; DependencyAway.
    """
    known_shape(job_id)
    identity, dependencies = identity_of(request), dependencies_of(request)
    if identity.sees is not None:
        state = (await dependencies.store.load(job_id)).state
        if state.tenant != identity.sees or (state.hidden and not hidden):
            raise JobNotFound(job_id=job_id)
    elif identity.credential and request.method in READS:
        tenant = await dependencies.tenant_of_job(job_id)
        if tenant is not None:
            dependencies.audit.tenant_read(request.scope, identity, tenant, job_id)
    return job_id


def tenant_of(request: Request) -> str:
    """The tenant that a request acts for: that of its key; of a header, where the key is an admin's or none is asked
    for. Errors: Malformed.
    """
    return tenant_for(request, identity_of(request))


def tenant_for(request: Request, identity: Identity) -> str:
    """The same, for an identity that was just found. Errors: Malformed."""
    if identity.sees is not None:
        return identity.sees
    tenant = request.headers.get("forge-tenant", identity.tenant or DEFAULT_TENANT)
    if not is_tenant(tenant):
        raise Malformed(parameter="Forge-Tenant", expected=TENANT_EXPECTED)
    return tenant


# As a parameter of a path. The form is in the document; `is_tenant` decides, for headers as well.
TenantName = Annotated[str, Path(json_schema_extra={"pattern": f"^{_TENANT.pattern}$"})]


def is_tenant(name: str) -> bool:
    """Whether it has the form of a tenant's name."""
    return _TENANT.fullmatch(name) is not None


async def quota_replies(
    dependencies: Dependencies, tenant: str, state: TenantState | None = None
) -> tuple[QuotaReply, ...]:
    """The quotas of a tenant as they are shown; `state`: newer than what was read. Errors: DependencyAway."""
    found = await dependencies.quotas.usage(tenant, state)
    return tuple(QuotaReply.model_validate(usage, from_attributes=True) for usage in found)


@contextlib.contextmanager
def room_for_upload(request: Request) -> Iterator[None]:
    """While the bytes of an upload are in memory. Errors: QuotaExceeded, UploadsFull, DependencyAway."""
    dependencies = dependencies_of(request)
    with dependencies.quotas.held(tenant_of(request), Quota.UPLOADS), dependencies.uploads.room():
        yield


async def keep_upload_for(request: Request, data: bytes) -> UploadReply:
    """Store an upload of the tenant of a request. Errors: QuotaExceeded, those of `Uploads.keep`."""
    dependencies, tenant = dependencies_of(request), tenant_of(request)
    async with dependencies.quotas.upload_of(tenant, len(data)):
        return await dependencies.uploads.keep(data, tenant, root_of(request))


_EVENT_ID: dict[str, JsonValue] = {"pattern": EVENT_ID_PATTERN}


def last_event(
    last_event_id: Annotated[
        str | None, Query(description="for tools that cannot set the header", json_schema_extra=_EVENT_ID)
    ] = None,
    header: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="continue after this event, without gap or repeat",
            json_schema_extra=_EVENT_ID,
        ),
    ] = None,
) -> EventCursor:
    """Where a stream goes on: after the event that its reader received last. Errors: Malformed."""
    sent = [EventCursor.parse(text) for text in (header, last_event_id) if text]
    return sent[0] if sent else EventCursor()


LastEvent = Annotated[EventCursor, Depends(last_event)]


async def open_stream_for(request: Request, job_ids: tuple[str, ...], cursor: EventCursor) -> Response:
    """Events of jobs that the sender may see, as a stream of its tenant. Errors: QuotaExceeded; of `open_stream`."""
    dependencies, tenant = dependencies_of(request), tenant_of(request)
    hub, quotas = dependencies.log.hub, dependencies.quotas
    quotas.hold(tenant, Quota.STREAMS)
    return await open_stream(hub, job_ids, cursor, partial(quotas.release, tenant, Quota.STREAMS))


def key_of(request: Request) -> str | None:
    """The idempotency key, if there is one. Errors: Malformed."""
    key = request.headers.get("idempotency-key")
    if key is not None and _KEY.fullmatch(key) is None:
        raise Malformed(parameter="Idempotency-Key", expected="1 to 255 printable ASCII characters")
    return key


async def submit_for(
    request: Request, body: bytes, key: str | None, workflow: Workflow | None = None
) -> tuple[str, JobOutcome]:
    """Submit a body in the name of the sender of a request, whichever interface it used. Errors: as `submit`."""
    return await submit(
        dependencies_of(request),
        body,
        tenant=tenant_of(request),
        sees=identity_of(request).sees,
        key=key,
        traceparent=context_of(request).traceparent,
        actor=actor_of(request),
        workflow=workflow,
    )


def reply(value: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value as JSON, serialised once."""
    return Response(value.model_dump_json(), status, headers, "application/json")


def accepted(request: Request, job_id: str, outcome: JobOutcome, *, replayed: bool = False) -> Response:
    """What every write to a job answers: its state after the write, and the place of the write in the log."""
    links = Links.of(job_id, root_of(request))
    body = Accepted(job_id=job_id, status=outcome.state.status, sequence=outcome.version, links=links)
    log = dependencies_of(request).log.hub.log
    headers = {"Location": links.self, "Forge-Sequence": str(outcome.version)} | ({"Forge-Log": log} if log else {})
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return reply(body, 202, headers)


def reply_if_changed(request: Request, value: BaseModel) -> Response:
    """A value as JSON; 304 where the client has it already, so that to ask again and again costs few bytes."""
    body = value.model_dump_json().encode()
    etag = etag_of(hashlib.blake2b(body, digest_size=16).hexdigest())
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if is_known(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, "application/json")


async def catch_up(dependencies: Dependencies, *sequences: int | None) -> None:
    """Wait until the tables contain the writes that the client has to see.

    Errors: SequenceNotGiven if no write has returned that sequence yet, ProjectionBehind after a time limit.
    """
    wanted = max((sequence for sequence in sequences if sequence is not None), default=0)
    if wanted > dependencies.checkpoints.reached:
        await _require_given(dependencies, wanted)
        await dependencies.checkpoints.wait_for(wanted, dependencies.settings.gateway_consistency_seconds)


async def _require_given(dependencies: Dependencies, sequence: int) -> None:
    """Tell a sequence that the log has not assigned yet from one that the tables have not reached yet."""
    try:
        log = dependencies.log
        if sequence <= log.hub.sequences[JOBS.name] or sequence <= (last := await last_sequence(log.bus, JOBS.name)):
            return
    except (DependencyAway, ApiError):
        return  # it cannot be decided now: wait, as for any other
    raise SequenceNotGiven(wanted=sequence, newest=last)


Sequence = Annotated[int | None, Query(ge=0, le=SEQUENCE_MAX, description="as the header Forge-Min-Sequence")]
SequenceHeader = Annotated[
    int | None,
    Header(
        alias="Forge-Min-Sequence",
        ge=0,
        le=SEQUENCE_MAX,
        description="the Forge-Sequence of a write that this read must see; waits for it, up to a limit",
    ),
]


LogHeader = Annotated[
    str | None,
    Header(
        alias="Forge-Log",
        pattern="^[0-9a-f]{8}$",
        description="the Forge-Log of that write: if the log was replaced since, the answer is 409",
    ),
]


def require_log(dependencies: Dependencies, given: str | None) -> None:
    """Errors: SequenceOfOtherLog when the sequence of a client counts in another log than ours."""
    log = dependencies.log.hub.log if given else ""
    if given and log and given != log:
        raise SequenceOfOtherLog(given=given, log=log)


async def consistent(
    request: Request, min_sequence: Sequence = None, header: SequenceHeader = None, log: LogHeader = None
) -> Dependencies:
    """The dependencies, once the tables have reached the sequence of the client.

    Errors: ProjectionBehind, SequenceOfOtherLog.
    """
    dependencies = dependencies_of(request)
    require_log(dependencies, log)
    await catch_up(dependencies, min_sequence, header)
    return dependencies


ConsistentDependencies = Annotated[Dependencies, Depends(consistent)]
