"""Jobs of the API v2."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from dreamforge.contracts.errors import JobNotFound
from dreamforge.contracts.quotas import Quota
from dreamforge.gateway.facades import runs
from dreamforge.gateway.facades.comfyui.bodies import json_object
from dreamforge.gateway.facades.comfyui.history import Row
from dreamforge.gateway.facades.comfyui.names import read_name
from dreamforge.gateway.facades.comfyui.v2.assets import problem_json
from dreamforge.gateway.facades.comfyui.v2.errors import v2_error
from dreamforge.gateway.facades.comfyui.v2.events import frames
from dreamforge.gateway.facades.comfyui.v2.jobs import STATUSES, job_json
from dreamforge.gateway.facades.comfyui.workflows import row_of, rows_of, submit_workflow
from dreamforge.gateway.http.errors import WorkflowRefused
from dreamforge.gateway.http.problems import problem_of
from dreamforge.gateway.http.root_path import root_of
from dreamforge.gateway.routes.common import LastEvent, dependencies_of, key_of, tenant_of

router = APIRouter(prefix="/api/v2/jobs", include_in_schema=False)
LIVE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
ANY_STATUS = tuple(STATUSES)
LIST_DEFAULT, LIST_MAX = 50, 100
# `extra_data` has a key for nodes that call other companies: there are none here, and it is not kept.
KNOWN = frozenset(("workflow", "extra_data"))


@router.post("")
async def submit(request: Request) -> Response:
    """A workflow becomes a job; a repeat with the same Idempotency-Key is the same job."""
    fields = await json_object(request)
    unknown = [name for name, value in fields.items() if name not in KNOWN and value not in (None, {})]
    if unknown:
        return problem_json(422, "invalid_request", f"{unknown[0][:80]} has no counterpart here")
    graph, missing = _without_assets(fields.get("workflow"))
    if missing:
        return problem_json(422, "missing_asset", f"no asset has the id {missing[0][:80]!r}")
    if isinstance(graph, dict) and isinstance(graph.get("nodes"), list):
        return problem_json(422, "workflow_format_ui", "this is the editor's own format; save it with Export (API)")
    try:
        job_id = await submit_workflow(request, graph, key=key_of(request))
    except WorkflowRefused as error:
        return JSONResponse(v2_error(problem_of(error)), 422)
    return JSONResponse(_shown(request, await _row(request, job_id)), 201)


def _without_assets(value: object) -> tuple[Any, list[str]]:  # Any: JSON
    """A workflow with the names of images where it has assets; and ids that are no asset's."""
    if not isinstance(value, dict):
        return value, []
    missing: list[str] = []
    graph = dict(value)
    for node_id, node in value.items():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if not isinstance(inputs, dict):
            continue
        graph[node_id] = {**node, "inputs": dict(inputs)}
        for name, given in inputs.items():
            if isinstance(given, dict) and given.get("__type") == "core/ASSET":
                info = given.get("info")
                asset_id = str(info.get("id")) if isinstance(info, dict) else "none"
                graph[node_id]["inputs"][name] = asset_id
                missing += [asset_id] if read_name(asset_id) is None else []
    return graph, missing


@router.get("")
async def list_jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=LIST_MAX)] = LIST_DEFAULT,
    cursor: Annotated[int, Query(ge=0, le=1_000_000, description="how many were before")] = 0,
) -> Response:
    """The workflows of the sender's tenant, newest first."""
    if any(name.startswith("metadata") for name in request.query_params):
        return problem_json(422, "invalid_request", "metadata has no counterpart here")
    rows = await rows_of(request, ANY_STATUS, limit + 1, cursor)
    shown = [_shown(request, row) for row in rows[:limit]]
    for each in shown:  # as the lists of the contract call them
        each["create_time"] = each["created_at"]
        each["update_time"] = each["completed_at"] or each["started_at"] or each["created_at"]
    return JSONResponse({"jobs": shown} | ({"next_cursor": str(cursor + limit)} if len(rows) > limit else {}))


@router.get("/{job_id}")
async def read_job(request: Request, job_id: str) -> Response:
    """A job. Errors: JobNotFound."""
    return JSONResponse(_shown(request, await _row(request, job_id)))


@router.get("/{job_id}/workflow")
async def read_workflow(request: Request, job_id: str) -> Response:
    """The workflow of a job. Errors: JobNotFound."""
    return JSONResponse({"workflow": (await _row(request, job_id))["workflow"]["graph"], "format": "api"})


@router.post("/{job_id}/cancel")
async def cancel(request: Request, job_id: str) -> Response:
    """Ask for the end of a job; of one that has ended, nothing. Errors: JobNotFound."""
    row = await _row(request, job_id)
    if row["finished_at"] is None:
        await runs.cancel(request, row["job_id"])
        row = await _row(request, job_id)
    return JSONResponse(_shown(request, row))


@router.get("/{job_id}/events")
async def events(request: Request, job_id: str, cursor: LastEvent) -> Response:
    """The events of a job: from its beginning, or after Last-Event-ID. Errors: JobNotFound, Malformed."""
    found = (await _row(request, job_id))["job_id"]
    stream = _held(request, frames(request, found, cursor, str(request.base_url).rstrip("/")))
    first = await anext(stream, None)
    if first is None:  # the client has had the end
        return Response(status_code=204, headers=LIVE)
    return StreamingResponse(_chained(first, stream), media_type="text/event-stream", headers=LIVE)


async def _held(request: Request, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The stream, as one of the sender's tenant. Errors: QuotaExceeded too."""
    with dependencies_of(request).quotas.held(tenant_of(request), Quota.STREAMS):
        async for frame in stream:
            yield frame


async def _chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for frame in rest:
        yield frame


async def _row(request: Request, job_id: str) -> Row:
    row = await row_of(request, job_id, ANY_STATUS)
    if row is None:
        raise JobNotFound(job_id=job_id[:64])
    return row


def _shown(request: Request, row: Row) -> dict[str, Any]:  # Any: JSON
    return job_json(row, str(request.base_url).rstrip("/"), root_of(request))
