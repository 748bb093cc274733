"""Control of a job: cancel, hold, release, priority. Each appends one event, or nothing."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.jobs import owner
from dreamforge.contracts.jobs.owner import OwnerCommand
from dreamforge.contracts.replies import Accepted
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import actor_of
from dreamforge.gateway.http.middleware import context_of
from dreamforge.gateway.routes.common import BoundedBodyRoute, accepted, dependencies_of, visible_job
from dreamforge.runtime import clock

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=BoundedBodyRoute)

COMMAND: dict[str, Any] = {  # Any: what FastAPI takes
    "status_code": 202,
    "response_model": Accepted,
    "responses": {
        202: {
            "description": "The request is in the log, or there was nothing left to do",
            "headers": doc.IDS | doc.SEQUENCE,
        },
        **doc.problems(400, 403, 404, 413, 415, 422, 503),
    },
}


async def _execute(request: Request, job_id: str, command: OwnerCommand) -> Response:
    store = dependencies_of(request).store
    outcome = await store.execute(
        await visible_job(request, job_id),
        command,
        traceparent=context_of(request).traceparent,
        actor=actor_of(request),
    )
    return accepted(request, job_id, outcome)


@router.post("/{job_id}/cancel", **COMMAND)
async def cancel_job(request: Request, job_id: str) -> Response:
    """Stop a job in any state. Repeating it changes nothing; a finished job does not change."""
    return await _execute(request, job_id, owner.RequestCancel(clock.now()))


@router.post("/{job_id}/hold", **COMMAND)
async def hold_job(request: Request, job_id: str) -> Response:
    """Keep a job from being assigned until it is released. An attempt that runs goes on; its deadlines count."""
    return await _execute(request, job_id, owner.HoldJob(clock.now()))


@router.post("/{job_id}/release", **COMMAND)
async def release_job(request: Request, job_id: str) -> Response:
    """Let a held job be assigned again."""
    return await _execute(request, job_id, owner.ReleaseJob(clock.now()))


class PriorityChange(BaseModel):
    """The new priority."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    priority: int = Field(ge=0, le=9, description="9 is the most urgent")


@router.post("/{job_id}/priority", **COMMAND)
async def change_priority(request: Request, job_id: str, change: PriorityChange) -> Response:
    """Give a job another priority. It counts from the next plan on; an attempt that runs is not touched."""
    return await _execute(request, job_id, owner.ChangePriority(clock.now(), change.priority))
