"""What each tool does: a call of our own API in the name of the sender of the request."""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.gateway.events.watch import JobEventData
from dreamforge.gateway.facades import runs
from dreamforge.gateway.facades.mcp.arguments import SHA256, checked, job_fields
from dreamforge.gateway.facades.steps import steps_done
from dreamforge.gateway.http.errors import InvalidRequest, Violation, pointer
from dreamforge.gateway.read.thumbnails import CONTENT_TYPE
from dreamforge.gateway.routes import fleet, jobs
from dreamforge.gateway.routes.common import dependencies_of, tenant_of
from dreamforge.runtime.storage.objects import object_key

Context = ServerRequestContext[Any, Request]  # Any: the SDK's lifespan
Arguments = Mapping[str, Any]  # Any: JSON
# An agent reads an image as part of its prompt: larger ones are shown small, with the address of the whole.
IMAGE_BYTES_MAX = 1_000_000


async def call(context: Context, tool: str, arguments: Arguments) -> types.CallToolResult:
    """Errors: ForgeError of what is called."""
    assert context.request is not None
    return await _TOOLS[tool](context, context.request, checked(tool, arguments))


async def _list_models(_: Context, request: Request, given: Arguments) -> types.CallToolResult:
    found = _json(await fleet.list_models(request))["models"]
    models = [
        {
            "model_id": model["descriptor"]["model_id"],
            "title": model["descriptor"].get("title"),
            "default": model["default"],
            "presets": model["descriptor"]["presets"],
            "parameters": model["parameters"],
        }
        for model in found
        if model["parameters"] is not None and given.get("model_id") in (None, model["descriptor"]["model_id"])
    ]
    return _result({"models": models})


async def _generate(context: Context, request: Request, given: Arguments) -> types.CallToolResult:
    return await _run(context, request, given, job_fields(given))


async def _edit(context: Context, request: Request, given: Arguments) -> types.CallToolResult:
    fields = job_fields(given) | {"init_image": await _image(request, given, "image")}
    if "mask" in given:
        fields["mask_image"] = await _image(request, given, "mask")
    return await _run(context, request, given, fields)


async def _get_job(_: Context, request: Request, given: Arguments) -> types.CallToolResult:
    job = await _job(request, given["job_id"])
    images = [_finished(artifact) for artifact in job["artifacts"]] if given.get("images", True) else []
    return await _with_images(request, job, images)


async def _find_jobs(_: Context, request: Request, given: Arguments) -> types.CallToolResult:
    query = jobs.JobListQuery.model_validate({"limit": 20, "steps": False, **given})
    return _result(_json(await jobs.list_jobs(request, query)))


async def _cancel(_: Context, request: Request, given: Arguments) -> types.CallToolResult:
    await runs.cancel(request, given["job_id"])
    return _result({"job_id": given["job_id"], "cancel_requested": True})


async def _explain(_: Context, request: Request, given: Arguments) -> types.CallToolResult:
    return _result(_json(await jobs.explain_job(request, dependencies_of(request), given["job_id"])))


_TOOLS: Mapping[str, Callable[[Context, Request, Arguments], Awaitable[types.CallToolResult]]] = {
    "list_models": _list_models,
    "generate_image": _generate,
    "edit_image": _edit,
    "get_job": _get_job,
    "find_jobs": _find_jobs,
    "cancel_job": _cancel,
    "explain_job": _explain,
}


async def _run(context: Context, request: Request, given: Arguments, fields: Arguments) -> types.CallToolResult:
    wait = bool(given.get("wait", True))
    job_id = await runs.start(request, fields, given.get("idempotency_key"), followed=wait)
    if not wait:
        return _result({"job_id": job_id, "status": "queued"})
    async for event in runs.events(request, job_id):
        await _tell(context, event)
    ended = await runs.finish(request, job_id)
    answer = {
        "job_id": job_id,
        "status": ended.event or "running",
        "message": ended.message,
        "images": [
            {"artifact_id": image.artifact_id, "sha256": image.sha256, "seed": image.seed} for image in ended.images
        ],
    }
    result = await _with_images(
        request, answer, [(each.artifact_id, each.sha256, each.content_type) for each in ended.images]
    )
    return result.model_copy(update={"is_error": ended.event == "failed"})


async def _tell(context: Context, event: JobEventData) -> None:
    """Progress, for clients that have asked for it: steps of all images, and how long it may still take."""
    if event["event"] == "step":
        done, total = steps_done(event)
        await context.session.report_progress(done, total, f"about {event['eta_seconds']:.0f} s left")
    elif event["event"] == "assigned":
        await context.session.report_progress(0, None, f"assigned to {event['runner_id']}")


async def _image(request: Request, given: Arguments, name: str) -> str:
    """The hash of an image that is named or sent. Errors: InvalidRequest, those of an upload."""
    text: str = given[name]
    if SHA256.fullmatch(text):
        return text
    try:
        data = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(violations=(Violation("must be a SHA-256 or base64", pointer((name,))),)) from None
    return await runs.keep_image(request, data)


async def _job(request: Request, job_id: str) -> dict[str, Any]:  # Any: JSON
    return _json(await jobs.read_job(request, dependencies_of(request), job_id))


def _json(answer: Response) -> dict[str, Any]:  # Any: JSON
    found: dict[str, Any] = json.loads(bytes(answer.body))
    return found


def _finished(artifact: Mapping[str, Any]) -> tuple[str, str, str]:
    return artifact["artifact_id"], artifact["sha256"], artifact["content_type"]


async def _with_images(
    request: Request, answer: Mapping[str, Any], images: list[tuple[str, str, str]]
) -> types.CallToolResult:
    """The answer, and each image (its id, hash and type) with the address of the whole."""
    content: list[types.ContentBlock] = []
    for artifact_id, sha256, content_type in images:
        data, shown_type = await _shown(request, sha256, content_type)
        if data:
            content.append(types.ImageContent(data=base64.b64encode(data).decode(), mime_type=shown_type))
        uri = f"{str(request.base_url).rstrip('/')}/v1/artifacts/{artifact_id}"
        content.append(types.ResourceLink(name=artifact_id, uri=uri, mime_type=content_type))
    result = _result(answer)
    return result.model_copy(update={"content": [*result.content, *content]})


async def _shown(request: Request, sha256: str, content_type: str) -> tuple[bytes, str]:
    dependencies, key = dependencies_of(request), object_key(sha256)
    is_image = content_type.startswith("image/")
    if is_image and (await dependencies.objects.head(key)).size_bytes <= IMAGE_BYTES_MAX:
        return await dependencies.images_for(tenant_of(request)).get(key), content_type
    return await dependencies.thumbnails.of(sha256, key), CONTENT_TYPE


def _result(answer: Mapping[str, Any]) -> types.CallToolResult:
    """The answer as text, which every client shows its model, and as structured content."""
    shown = {name: value for name, value in answer.items() if value is not None}
    return types.CallToolResult(content=[types.TextContent(text=json.dumps(shown))], structured_content=shown)
