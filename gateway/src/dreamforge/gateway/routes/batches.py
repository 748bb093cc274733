"""Batches: several jobs that are submitted, watched, cancelled and fetched as one; and the wildcards of templates."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.batch_replies import (
    BatchAccepted,
    BatchDryRun,
    BatchJob,
    BatchLinks,
    BatchPage,
    BatchReply,
    RefusedWildcard,
    WildcardList,
    WildcardReply,
)
from dreamforge.contracts.errors import BatchNotFound, JobNotFound
from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.jobs import owner
from dreamforge.contracts.models.descriptor import Token
from dreamforge.contracts.pictures.formats import extension_of
from dreamforge.contracts.stored_objects import object_key
from dreamforge.gateway.batches.submit_batch import Sender, preview_batch, submit_batch
from dreamforge.gateway.batches.wildcards import read_wildcards
from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import actor_of, identity_of
from dreamforge.gateway.http.cursor import PAGE_PATTERN, SEQUENCE_MAX, PageCursor
from dreamforge.gateway.http.middleware import context_of
from dreamforge.gateway.http.root_path import root_of
from dreamforge.gateway.http.zip_stream import ZipEntry, ZipResponse
from dreamforge.gateway.read import batches as read
from dreamforge.gateway.read.forecasts import forecast_of_batch
from dreamforge.gateway.routes.common import (
    ConsistentDependencies,
    LastEvent,
    SequenceHeader,
    catch_up,
    dependencies_of,
    key_of,
    known_shape,
    open_stream_for,
    reply,
    reply_if_changed,
    require_log,
    tenant_of,
)
from dreamforge.gateway.routes.jobs import PAGE_DEFAULT, PAGE_MAX
from dreamforge.gateway.submit.submit import json_body_of
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.event_store import JobOutcome, LoadedJob

router = APIRouter(prefix="/v1", tags=["batches"])
# Cancels of one batch that are appended at the same time, so that they are written in groups.
CANCELS_AT_ONCE = 32
WILDCARD_VALUES_SHOWN = 5


@router.post(
    "/batches",
    status_code=202,
    response_model=BatchAccepted,
    responses={
        200: {
            "model": BatchDryRun,
            "description": "With dry_run: what the jobs would be, and when they would end",
        },
        202: {
            "description": "The jobs of the batch are in the log, all of them, durably",
            "headers": doc.IDS
            | doc.SEQUENCE
            | {
                "Location": {"schema": {"type": "string"}, "description": "the batch"},
                "Idempotent-Replayed": {"schema": {"type": "string"}, "description": "true if the batch existed"},
            },
        },
        **doc.problems(400, 403, 409, 410, 413, 415, 422, 429, 503),
    },
    openapi_extra={
        "parameters": [doc.TENANT, doc.KEY],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchSubmission"}}},
        },
    },
)
async def submit_jobs(
    request: Request,
    dry_run: Annotated[bool, Query(description="check everything, make no job, and say when all would end")] = False,
) -> Response:
    """Request several jobs as one: prompt templates are expanded, and a grid of parameters is combined with them."""
    dependencies = dependencies_of(request)
    body = await json_body_of(request, dependencies.limits.body_bytes)
    sees, traceparent = identity_of(request).sees, context_of(request).traceparent
    sender = Sender(tenant_of(request), sees, key_of(request), traceparent, actor_of(request))
    if dry_run:
        return await _dry_run(dependencies, body, sender)
    made = await submit_batch(dependencies, body, sender)
    replayed = {} if made.outcome.events else {"Idempotent-Replayed": "true"}
    return _accepted(request, made.batch_id, made.jobs, made.outcome.version, replayed)


async def _dry_run(dependencies: Dependencies, body: bytes, sender: Sender) -> Response:
    found = await preview_batch(dependencies, body, sender)
    answer = await forecast_of_batch(dependencies.log.bus, found.commands)
    dry_run = BatchDryRun(
        jobs=len(found.commands),
        request=found.commands[0].request,
        chosen=found.chosen,
        template_seed=found.template_seed,
        pixel_steps=found.pixel_steps,
        forecast=answer.batch,
        reason=answer.reason,
    )
    return reply(dry_run)


def _accepted(request: Request, batch_id: str, jobs: int, sequence: int, headers: dict[str, str]) -> Response:
    links = BatchLinks.of(batch_id, root_of(request))
    log = dependencies_of(request).log.hub.log
    headers = {"Location": links.self, "Forge-Sequence": str(sequence)} | ({"Forge-Log": log} if log else {}) | headers
    return reply(BatchAccepted(batch_id=batch_id, jobs=jobs, sequence=sequence, links=links), 202, headers)


class BatchListQuery(BaseModel):
    """How many batches, and after which."""

    model_config = ConfigDict(extra="forbid")

    tenant: Token | None = None
    cursor: str | None = Field(default=None, pattern=PAGE_PATTERN, description="next_cursor of the page before")
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX)
    min_sequence: int | None = Field(default=None, ge=0, le=SEQUENCE_MAX, description="as Forge-Min-Sequence")


@router.get("/batches", response_model=BatchPage, responses=doc.UNCHANGED | doc.problems(409, 422, 503))
async def list_batches(
    request: Request, query: Annotated[BatchListQuery, Query()], min_sequence: SequenceHeader = None
) -> Response:
    """Batches, newest first, page by page."""
    dependencies, sees = dependencies_of(request), identity_of(request).sees
    if sees is not None and query.tenant not in (None, sees):
        return reply(BatchPage(batches=(), next_cursor=None))
    after = PageCursor.decode(query.cursor) if query.cursor is not None else None
    require_log(dependencies, request.headers.get("forge-log"))
    await catch_up(dependencies, query.min_sequence, min_sequence)
    found = await dependencies.database.rows(read.page(tenant=sees or query.tenant, after=after, limit=query.limit))
    rows, more = found[: query.limit], len(found) > query.limit
    last = PageCursor(rows[-1]["requested_at"], rows[-1]["batch_id"]).encode() if more else None
    summaries = tuple(read.batch_summary(row, root_of(request)) for row in rows)
    return reply_if_changed(request, BatchPage(batches=summaries, next_cursor=last))


@router.get(
    "/batches/{batch_id}", response_model=BatchReply, responses=doc.UNCHANGED | doc.problems(404, 409, 422, 503)
)
async def read_batch(request: Request, dependencies: ConsistentDependencies, batch_id: str) -> Response:
    """A batch: what was asked for, its jobs in their order, and their finished pictures."""
    rows = await _rows_of(request, dependencies, batch_id)
    return reply_if_changed(request, read.batch_reply(rows, root_of(request)))


async def _rows_of(request: Request, dependencies: Dependencies, batch_id: str) -> Sequence[RowMapping]:
    """The rows of a batch that the sender may see; waits until they are in the tables. Errors: BatchNotFound."""
    loaded, _ = await _visible_batch(request, batch_id)
    statement = read.batch(batch_id)
    rows = await dependencies.database.rows(statement)
    if not rows:
        await catch_up(dependencies, loaded.version)
        rows = await dependencies.database.rows(statement)
    if not rows:
        raise BatchNotFound(batch_id=batch_id)
    return rows


async def _visible_batch(request: Request, batch_id: str) -> tuple[LoadedJob, tuple[str, ...]]:
    """The first job of a batch that the sender may see, and the ids of all. Errors: BatchNotFound, DependencyAway."""
    try:
        known_shape(batch_id)
    except JobNotFound:
        raise BatchNotFound(batch_id=batch_id[:64]) from None
    loaded = await dependencies_of(request).store.load(ids.job_id_in(batch_id, 0))
    sees = identity_of(request).sees
    requested = loaded.history[0].event if loaded.history else None
    if (
        loaded.state.hidden
        or not isinstance(requested, JobRequested)
        or requested.batch is None
        or requested.batch.batch_id != batch_id
    ):
        raise BatchNotFound(batch_id=batch_id)
    if loaded.state.hidden or (sees is not None and requested.tenant != sees):
        raise BatchNotFound(batch_id=batch_id)
    return loaded, tuple(ids.job_id_in(batch_id, index) for index in range(requested.batch.jobs))


@router.get(
    "/batches/{batch_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events of all jobs, as those of one job: history, then live, in the order of "
            "the log. Ends when the last job has ended. The steps of jobs that have ended are left out.",
            "headers": doc.IDS,
            "content": {"text/event-stream": doc.EVENT},
        },
        204: {"description": "You have received the last event: do not reconnect"},
        **doc.problems(400, 404, 422, 503),
    },
)
async def watch_batch(
    request: Request,
    batch_id: str,
    cursor: LastEvent,
) -> Response:
    """Every event of the jobs of a batch, from the beginning or after the last one you received."""
    _, job_ids = await _visible_batch(request, batch_id)
    return await open_stream_for(request, job_ids, cursor)


@router.post(
    "/batches/{batch_id}/cancel",
    status_code=202,
    response_model=BatchAccepted,
    responses={
        202: {
            "description": "Each job that had not ended is cancelled, or will be within one step",
            "headers": doc.IDS | doc.SEQUENCE,
        },
        **doc.problems(403, 404, 415, 422, 503),
    },
)
async def cancel_batch(request: Request, batch_id: str) -> Response:
    """Stop all jobs of a batch that have not ended, the last ones first. Repeating it changes nothing."""
    await json_body_of(request, dependencies_of(request).limits.body_bytes)
    store = dependencies_of(request).store
    said: dict[str, Any] = {"traceparent": context_of(request).traceparent, "actor": actor_of(request)}  # Any: options
    loaded, job_ids = await _visible_batch(request, batch_id)
    sequence, waiting = loaded.version, list(reversed(job_ids))
    while waiting:
        now, waiting = waiting[:CANCELS_AT_ONCE], waiting[CANCELS_AT_ONCE:]
        command = owner.RequestCancel(clock.now())
        executed = (store.execute(each, command, **said) for each in now)
        outcomes = await asyncio.gather(*(_unless_deleted(each) for each in executed))
        sequence = max(sequence, *(outcome.version for outcome in outcomes if outcome is not None))
    return _accepted(request, batch_id, len(job_ids), sequence, {})


async def _unless_deleted(executed: Awaitable[JobOutcome]) -> JobOutcome | None:
    try:
        return await executed
    except JobNotFound:
        return None


@router.get(
    "/batches/{batch_id}/images.zip",
    response_class=Response,
    responses={
        200: {
            "description": "The finished pictures, named by the index of the job, of the picture and its seed, and "
            "`batch.json`, which says what each of them is",
            "headers": doc.IDS,
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
        **doc.problems(404, 409, 422, 503),
    },
)
async def fetch_batch(request: Request, dependencies: ConsistentDependencies, batch_id: str) -> Response:
    """The finished pictures of a batch, as one zip file."""
    batch = read.batch_reply(await _rows_of(request, dependencies, batch_id), root_of(request))
    found = await dependencies.database.rows(read.stored_images(batch_id))
    keys = {row["artifact_id"]: row for row in found}
    entries = [
        ZipEntry(file_name(job, number, batch.jobs), row["stored_at"], object_key(row["sha256"]), row["size_bytes"])
        for job in batch.members
        for number, image in enumerate(job.images)
        if (row := keys.get(image.artifact_id)) is not None
    ]
    manifest = ZipEntry("batch.json", batch.requested_at, data=batch.model_dump_json(indent=2).encode())
    return ZipResponse(dependencies.objects, [manifest, *entries], f"batch-{batch_id[-8:]}.zip")


def file_name(job: BatchJob, number: int, jobs: int) -> str:
    """The name of an image of a job in the zip file: the index of its job, then its own, then its seed."""
    image = job.images[number]
    digits = len(str(max(0, jobs - 1)))
    return f"{job.index:0{digits}}-{image.index}-seed-{image.seed}{extension_of(image.content_type)}"


@router.get("/wildcards", response_model=WildcardList, responses=doc.UNCHANGED | doc.problems(503))
async def list_wildcards(request: Request) -> Response:
    """The lists of values that prompt templates may name, and the files of their folder that are not taken."""
    dependencies = dependencies_of(request)
    found = await asyncio.to_thread(read_wildcards, dependencies.wildcards_dir, dependencies.wildcards_bytes)
    listed = tuple(
        WildcardReply(name=name, values=len(values), first=values[:WILDCARD_VALUES_SHOWN])
        for name, values in found.values.items()
    )
    refused = tuple(RefusedWildcard(name=name, reason=reason) for name, reason in found.refused.items())
    return reply_if_changed(request, WildcardList(wildcards=listed, refused=refused))
