"""Jobs: submit, read, watch, explain."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.errors import JobNotFound
from dreamforge.contracts.events import Decision
from dreamforge.contracts.jobs.course import TERMINAL, Status
from dreamforge.contracts.models.descriptor import Token
from dreamforge.contracts.placement import needs_of
from dreamforge.contracts.queue_control import hold_of
from dreamforge.contracts.replies import (
    Accepted,
    AttemptReply,
    DryRun,
    JobPage,
    JobReply,
    JobSummary,
    Waiting,
    WhyReply,
)
from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import identity_of
from dreamforge.gateway.http.cursor import PAGE_PATTERN, SEQUENCE_MAX, PageCursor
from dreamforge.gateway.http.root_path import root_of
from dreamforge.gateway.read import queries, why
from dreamforge.gateway.read.forecasts import forecast_of_job, forecast_of_request
from dreamforge.gateway.read.rows import job_reply, job_summary
from dreamforge.gateway.routes.common import (
    ConsistentDependencies,
    LastEvent,
    SequenceHeader,
    accepted,
    catch_up,
    dependencies_of,
    key_of,
    of_this_log,
    open_stream_for,
    reply,
    reply_if_changed,
    require_log,
    submit_for,
    tenant_of,
    visible_job,
)
from dreamforge.gateway.submit.submit import json_body_of, preview
from dreamforge.runtime import clock

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
PAGE_DEFAULT, PAGE_MAX = 50, 200


@router.post(
    "",
    status_code=202,
    response_model=Accepted,
    responses={
        200: {"model": DryRun, "description": "With dry_run: what the request would become, and when it would end"},
        202: {
            "description": "The job is in the log, durably, and will reach exactly one terminal state",
            "headers": doc.IDS
            | doc.SEQUENCE
            | {
                "Location": {"schema": {"type": "string"}, "description": "the job"},
                "Idempotent-Replayed": {"schema": {"type": "string"}, "description": "true if the job existed"},
            },
        },
        **doc.problems(400, 403, 409, 410, 413, 415, 422, 429, 503),
    },
    openapi_extra={
        "parameters": [doc.TENANT, doc.KEY],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Submission"}}},
        },
    },
)
async def submit_job(
    request: Request,
    dry_run: Annotated[bool, Query(description="check everything, make no job, and say when it would end")] = False,
) -> Response:
    """Request pictures."""
    key = key_of(request)
    dependencies = dependencies_of(request)
    body = await json_body_of(request, dependencies.limits.body_bytes)
    if dry_run:
        command = await preview(dependencies, body, tenant=tenant_of(request), sees=identity_of(request).sees)
        answer = await forecast_of_request(dependencies.log.bus, command)
        work = command.request.pixel_steps
        found = DryRun(request=command.request, pixel_steps=work, forecast=answer.forecast, reason=answer.reason)
        return reply(found)
    job_id, outcome = await submit_for(request, body, key)
    return accepted(request, job_id, outcome, replayed=not outcome.events)


async def submit_job_directly(request: Request) -> Response:
    """`submit_job` with what the framework would do before it, for `DirectRoute`. Errors: OtherLog too."""
    await of_this_log(request)
    return await submit_job(request)


class JobListQuery(BaseModel):
    """Which jobs, and how many of them."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    status: Status | None = None
    tenant: Token | None = None
    model_id: Token | None = None
    cursor: str | None = Field(default=None, pattern=PAGE_PATTERN, description="next_cursor of the page before")
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX)
    steps: bool = Field(default=True, description="false: without the latest steps, so a list changes by events only")
    min_sequence: int | None = Field(default=None, ge=0, le=SEQUENCE_MAX, description="as Forge-Min-Sequence")


@router.get("", response_model=JobPage, responses=doc.UNCHANGED | doc.problems(409, 422, 503))
async def list_jobs(
    request: Request,
    query: Annotated[JobListQuery, Query()],
    min_sequence: SequenceHeader = None,
) -> Response:
    """Jobs, newest first, page by page. A cursor stays valid whatever is submitted meanwhile."""
    dependencies = dependencies_of(request)
    sees = identity_of(request).sees
    if sees is not None and query.tenant not in (None, sees):
        return reply(JobPage(jobs=(), next_cursor=None))
    if sees is None and identity_of(request).credential:
        dependencies.audit.tenant_read(request.scope, identity_of(request), query.tenant)
    after = PageCursor.decode(query.cursor) if query.cursor is not None else None
    require_log(
        dependencies, request.headers.get("forge-log")
    )  # as LogHeader; a list is the one route with a query model
    await catch_up(dependencies, query.min_sequence, min_sequence)
    statement = queries.page(
        status=query.status,
        tenant=sees or query.tenant,
        model_id=query.model_id,
        after=after,
        limit=query.limit,
        steps=query.steps,
    )
    found = await dependencies.database.rows(statement)
    rows, more = found[: query.limit], len(found) > query.limit
    last = PageCursor(rows[-1]["requested_at"], rows[-1]["job_id"]).encode() if more else None
    jobs = tuple(job_summary(row, root_of(request)) for row in rows)
    return reply_if_changed(request, JobPage(jobs=jobs, next_cursor=last))


@router.get("/{job_id}", response_model=JobReply, responses=doc.problems(404, 409, 422, 503))
async def read_job(request: Request, dependencies: ConsistentDependencies, job_id: str) -> Response:
    """A job: its state, its latest step, its attempts and its pictures."""
    row = await _row_of(dependencies, await visible_job(request, job_id), queries.job(job_id))
    job = job_reply(row, root_of(request))
    if job.status not in TERMINAL:
        answer = await forecast_of_job(dependencies.log.bus, job_id)
        job = job.model_copy(update={"forecast": answer.forecast})
    return reply(job)


async def _row_of(dependencies: Dependencies, job_id: str, statement: queries.Statement) -> RowMapping:
    """The row of a job; waits for one that is in the log and not yet in the tables.

    Errors: JobNotFound, OtherLog.
    """
    row = await dependencies.database.row(statement)
    if row is None:
        loaded = await dependencies.store.load(job_id)
        if not loaded.version or loaded.state.hidden:
            raise JobNotFound(job_id=job_id)
        await catch_up(dependencies, loaded.version)
        row = await dependencies.database.row(statement)
    if row is None:  # in the log and not in tables that have passed it: are they of this log?
        await dependencies.same_log.compare(dependencies.log.bus)
        dependencies.same_log.require()
        raise JobNotFound(job_id=job_id)
    return row


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events: history, then live. `event` is the short name, `id` resumes, `data` "
            "is JSON with job_id, sequence, type, at and the event's own fields (see /asyncapi). Ends after the "
            "terminal event; comments keep it alive.",
            "headers": doc.IDS,
            "content": {"text/event-stream": doc.EVENT},
        },
        204: {"description": "You have received the last event: do not reconnect"},
        **doc.problems(400, 404, 422, 429, 503),
    },
)
async def watch_job(
    request: Request,
    job_id: str,
    cursor: LastEvent,
) -> Response:
    """Every event of a job, from the beginning or after the last one you received."""
    return await open_stream_for(request, (await visible_job(request, job_id),), cursor)


@router.get("/{job_id}/why", response_model=WhyReply, responses=doc.problems(404, 409, 422, 503))
async def explain_job(request: Request, dependencies: ConsistentDependencies, job_id: str) -> Response:
    """Why a job waits, or why its runner was chosen."""
    row = await _row_of(dependencies, await visible_job(request, job_id), queries.job_decisions(job_id))
    job = job_summary(row, root_of(request))
    recorded = [dict(each) for each in row["attempts"] or ()]
    decisions = [Decision.model_validate(each.pop("decision")) for each in recorded]
    decided = tuple(
        why.attempt_decision(AttemptReply.model_validate(each), decision)
        for each, decision in zip(recorded, decisions, strict=True)
    )
    waiting = await _waiting(dependencies, job) if job.status is Status.QUEUED else None
    text = why.summary(job, waiting, clock.now())
    return reply(WhyReply(job_id=job_id, status=job.status, summary=text, attempts=decided, waiting=waiting))


async def _waiting(dependencies: Dependencies, job: JobSummary) -> Waiting:
    models = dependencies.models()
    fleet = dependencies.heartbeats().values()
    given = await dependencies.database.rows(queries.commitments())
    ahead = await dependencies.database.row(queries.ahead_of(job.job_id))
    commitments = {row["runner_id"]: why.Commitment(row["slots"], int(row["bytes"])) for row in given}
    held, since = _hold_of(job, dependencies.held_queues())
    expected = await forecast_of_job(dependencies.log.bus, job.job_id)
    return Waiting(
        held=held,
        held_since=since,
        ahead=ahead["number"] if ahead else 0,
        retry_at=job.retry_at,
        candidates=why.judged(needs_of(job.request), models, fleet, commitments),
        forecast=expected.forecast,
    )


def _hold_of(
    job: JobSummary, queues: Mapping[str, datetime]
) -> tuple[Literal["job", "tenant", "fleet"] | None, datetime | None]:
    """What keeps a job from being assigned, if its owner or an operator does, and since when."""
    if job.held_since is not None:
        return "job", job.held_since
    hold = hold_of(job.tenant, queues)
    return (None, None) if hold is None else (hold.kind, hold.since)
