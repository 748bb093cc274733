"""Deleting: a job with undo for a while, one image of a job for good."""

import asyncio
from datetime import timedelta

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.errors import ArtifactNotFound, JobNotFound
from dreamforge.contracts.jobs.erasure import EraseArtifact, RequestErasure, UndoErasure
from dreamforge.contracts.replies import Accepted
from dreamforge.contracts.tenant_replies import ErasureAccepted, ErasureItem, ErasuresReply, TenantDeletion
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import actor_of, identity_of
from dreamforge.gateway.http.errors import Malformed
from dreamforge.gateway.http.middleware import context_of
from dreamforge.gateway.http.root_path import root_of
from dreamforge.gateway.read import queries
from dreamforge.gateway.routes.artifacts import parts_of_artifact
from dreamforge.gateway.routes.common import (
    TENANT_EXPECTED,
    ConsistentDependencies,
    TenantName,
    accepted,
    catch_up,
    dependencies_of,
    is_tenant,
    reply,
    visible_job,
)
from dreamforge.runtime import clock

router = APIRouter(prefix="/v1", tags=["deletion"])
# Hidden jobs have no pages: a client that has more of them than this asks again when some are erased.
LISTED_MAX = 1_000
JOBS_A_REQUEST, WRITES_AT_ONCE = 500, 32
WRITTEN = {
    "description": "The request is in the log, or there was nothing left to do",
    "headers": doc.IDS | doc.SEQUENCE,
}


def _undelete(request: Request, job_id: str) -> str:
    return f"{root_of(request)}/v1/jobs/{job_id}/undelete"


@router.delete(
    "/jobs/{job_id}",
    status_code=202,
    response_model=ErasureAccepted,
    responses={202: WRITTEN, **doc.problems(403, 404, 422, 503)},
)
async def delete_job(request: Request, job_id: str) -> Response:
    """Delete a job with its prompt and images; an open one is cancelled first. From now on it is answered with 404.

    It can be undone until `erase_at`; then it is erased from the log, the tables and the store. Repeating it changes
    nothing.
    """
    dependencies, now = dependencies_of(request), clock.now()
    grace = timedelta(seconds=dependencies.settings.erasure_grace_seconds)
    outcome = await dependencies.store.execute(
        await visible_job(request, job_id, hidden=True),
        RequestErasure(now, now + grace),
        traceparent=context_of(request).traceparent,
        actor=actor_of(request),
    )
    assert outcome.state.erase_at is not None
    body = ErasureAccepted(
        job_id=job_id,
        erase_at=outcome.state.erase_at,
        undelete=_undelete(request, job_id),
        sequence=outcome.version,
    )
    log = dependencies.log.hub.log
    return reply(body, 202, {"Forge-Sequence": str(outcome.version)} | ({"Forge-Log": log} if log else {}))


@router.post(
    "/jobs/{job_id}/undelete",
    status_code=202,
    response_model=Accepted,
    responses={202: WRITTEN, **doc.problems(403, 404, 422, 503)},
)
async def undelete_job(request: Request, job_id: str) -> Response:
    """Show a deleted job again, until it is erased. A job that was open when it was deleted stays cancelled."""
    outcome = await dependencies_of(request).store.execute(
        await visible_job(request, job_id, hidden=True),
        UndoErasure(clock.now()),
        traceparent=context_of(request).traceparent,
        actor=actor_of(request),
    )
    return accepted(request, job_id, outcome)


@router.get("/erasures", response_model=ErasuresReply, responses=doc.problems(409, 422, 503))
async def list_erasures(request: Request, dependencies: ConsistentDependencies) -> Response:
    """The deleted jobs that can be undeleted, the soonest to be erased first; at most 1,000."""
    rows = await dependencies.database.rows(queries.erasures(identity_of(request).sees, LISTED_MAX))
    items = (ErasureItem.model_validate(dict(row) | {"undelete": _undelete(request, row["job_id"])}) for row in rows)
    return reply(ErasuresReply(erasures=tuple(items)))


@router.delete(
    "/artifacts/{artifact_id}",
    status_code=202,
    response_model=Accepted,
    responses={202: WRITTEN, **doc.problems(403, 404, 422, 503)},
)
async def delete_artifact(request: Request, artifact_id: str) -> Response:
    """Delete one image of a job for good: this cannot be undone. The job and its other images stay."""
    job_id, attempt, index = parts_of_artifact(artifact_id)
    try:
        outcome = await dependencies_of(request).store.execute(
            await visible_job(request, job_id),
            EraseArtifact(clock.now(), attempt, index),
            traceparent=context_of(request).traceparent,
            actor=actor_of(request),
        )
    except (ArtifactNotFound, JobNotFound):
        raise ArtifactNotFound(artifact_id=artifact_id) from None
    return accepted(request, job_id, outcome)


@router.delete(
    "/tenants/{tenant}/data", response_model=TenantDeletion, responses=doc.problems(400, 403, 404, 409, 415, 422, 503)
)
async def delete_tenant_data(request: Request, dependencies: ConsistentDependencies, tenant: TenantName) -> Response:
    """Delete every job and upload of a tenant, 500 jobs a request: repeat it until `more` is false.

    Jobs can be undeleted until they are erased, uploads can not. API keys are not revoked by it.
    """
    if not is_tenant(tenant):
        raise Malformed(parameter="tenant", expected=TENANT_EXPECTED)
    uploads = await dependencies.uploads.delete_all(tenant)
    rows = await dependencies.database.rows(queries.shown_jobs(tenant, JOBS_A_REQUEST + 1))
    now = clock.now()
    command = RequestErasure(now, now + timedelta(seconds=dependencies.settings.erasure_grace_seconds), "admin")
    actor = actor_of(request)
    waiting, sequence = [str(row["job_id"]) for row in rows[:JOBS_A_REQUEST]], 0
    while waiting:
        batch, waiting = waiting[:WRITES_AT_ONCE], waiting[WRITES_AT_ONCE:]
        outcomes = await asyncio.gather(*(dependencies.store.execute(each, command, actor=actor) for each in batch))
        sequence = max(sequence, *(outcome.version for outcome in outcomes))
    await catch_up(dependencies, sequence)
    deleted = min(len(rows), JOBS_A_REQUEST)
    return reply(TenantDeletion(tenant=tenant, jobs=deleted, uploads=uploads, more=len(rows) > JOBS_A_REQUEST))
