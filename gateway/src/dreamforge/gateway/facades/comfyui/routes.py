"""ComfyUI's classic API: at the root, where its clients look, and the same below `/api`. The websocket is beside."""

import json
import os
import platform
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.contracts.pictures.formats import content_type_of
from dreamforge.gateway.facades import runs
from dreamforge.gateway.facades.comfyui import models
from dreamforge.gateway.facades.comfyui import object_info as described
from dreamforge.gateway.facades.comfyui.bodies import image_form, json_object
from dreamforge.gateway.facades.comfyui.history import HISTORY, PENDING, RUNNING, history, milliseconds, queue
from dreamforge.gateway.facades.comfyui.names import ArtifactName, UploadName, read_name, upload_name
from dreamforge.gateway.facades.comfyui.refusals import refused
from dreamforge.gateway.facades.comfyui.workflows import (
    CLIENT_ID,
    UUID,
    row_of,
    rows_of,
    submit_workflow,
    text_field,
)
from dreamforge.gateway.http.errors import PageNotFound
from dreamforge.gateway.routes import artifacts, uploads
from dreamforge.gateway.routes.common import dependencies_of
from dreamforge.runtime import clock

router = APIRouter(include_in_schema=False)
HISTORY_DEFAULT, HISTORY_MAX = 100, 1000
# More than a tenant has open at any time; the queue is shown as a whole.
QUEUE_MAX = 1000
MAX_ITEMS = Query(ge=1, le=HISTORY_MAX)


@router.post("/prompt")
async def submit(request: Request) -> Response:
    """A workflow becomes a job."""
    fields = await json_object(request)
    number = fields.get("number")
    front = fields.get("front") is True or (isinstance(number, int | float) and number < 0)
    prompt_id = text_field(fields, "prompt_id", UUID, "a UUID in lower case")
    targets = fields.get("partial_execution_targets")
    job_id = await submit_workflow(
        request,
        fields.get("prompt"),
        targets=[str(each) for each in targets] if isinstance(targets, list) else None,
        client_id=text_field(fields, "client_id", CLIENT_ID, "1 to 128 printable characters"),
        prompt_id=prompt_id,
        urgent=front,
    )
    answer = {"prompt_id": prompt_id or job_id, "number": milliseconds(clock.now()), "node_errors": {}}
    return JSONResponse(answer, headers={"X-Forge-Job": job_id})


@router.get("/prompt")
async def queue_length(request: Request) -> Response:
    """How many jobs have not ended."""
    await runs.up_to_date(request)
    return JSONResponse({"exec_info": {"queue_remaining": await runs.open_workflow_number(request)}})


@router.get("/queue")
async def read_queue(request: Request) -> Response:
    """The jobs of the sender's tenant that have not ended."""
    return JSONResponse(queue(await rows_of(request, (*RUNNING, *PENDING), QUEUE_MAX)))


@router.post("/queue")
async def change_queue(request: Request) -> Response:
    """Cancel jobs of the sender's tenant that wait: all (`clear`) or some (`delete`)."""
    fields = await json_object(request)
    if fields.get("clear"):
        for row in await rows_of(request, PENDING, QUEUE_MAX):
            await runs.cancel(request, row["job_id"])
    wanted = fields.get("delete", [])
    for prompt_id in wanted[:QUEUE_MAX] if isinstance(wanted, list) else ():
        if (named := await row_of(request, str(prompt_id), PENDING)) is not None:
            await runs.cancel(request, named["job_id"])
    return Response()


@router.post("/interrupt")
async def interrupt(request: Request) -> Response:
    """Cancel what runs of the sender's tenant, or the one that is named."""
    prompt_id = (await json_object(request)).get("prompt_id")
    if prompt_id is None:
        for row in await rows_of(request, RUNNING, QUEUE_MAX):
            await runs.cancel(request, row["job_id"])
    elif (named := await row_of(request, str(prompt_id), RUNNING)) is not None:
        await runs.cancel(request, named["job_id"])
    return Response()


@router.get("/history")
async def read_history(
    request: Request,
    max_items: Annotated[int, MAX_ITEMS] = HISTORY_DEFAULT,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> Response:
    """The jobs of the sender's tenant that have ended."""
    return JSONResponse(history(await rows_of(request, HISTORY, max_items, offset)))


@router.post("/history")
async def change_history(request: Request) -> Response:  # noqa: ARG001
    """The log is not changed from here. Errors: WorkflowRefused."""
    said = "delete a job, with its images, by DELETE /v1/jobs/{id}"
    raise refused("not_supported", "The history is the log, which is kept", said)


@router.get("/history/{prompt_id}")
async def read_history_of(request: Request, prompt_id: str) -> Response:
    """One of them; nothing before it has ended."""
    row = await row_of(request, prompt_id, HISTORY)
    return JSONResponse(history([row] if row is not None else []))


@router.get("/view")
async def view(request: Request, filename: str = "", channel: str = "rgba", preview: str = "") -> Response:
    """An image by its name. Errors: ArtifactNotFound, UploadNotFound, WorkflowRefused."""
    for name, given, only in (("channel", channel, "rgba"), ("preview", preview, "")):
        if given != only:
            raise refused("not_supported", f"{name} has no counterpart here", "an image is answered as it is")
    dependencies = dependencies_of(request)
    match read_name(filename):
        case ArtifactName(artifact_id):
            return await artifacts.fetch_artifact(request, dependencies, artifact_id)
        case UploadName(sha256):
            return await uploads.fetch_upload(request, sha256)
    raise ArtifactNotFound(artifact_id=filename[:80])


@router.post("/upload/image")
async def upload_image(request: Request) -> Response:
    """Keep an image; its name is its content. Folders and names of clients are not kept."""
    data, _ = await image_form(request)
    sha256 = await runs.keep_image(request, data)
    return _uploaded(upload_name(sha256, content_type_of(data) or "image/png"))


@router.post("/upload/mask")
async def upload_mask(request: Request) -> Response:
    """Keep an image whose transparency is the mask of the one in `original_ref`. Errors: WorkflowRefused."""
    data, fields = await image_form(request)
    original = read_name(_file_in(fields.get("original_ref", "")))
    if not isinstance(original, UploadName):
        said = 'it must be JSON, {"filename": NAME}, with the name that /upload/image has answered'
        raise refused("invalid_original_ref", "original_ref names no upload", said)
    mask_sha256 = await runs.keep_image(request, data)
    return _uploaded(upload_name(original.sha256, "image/png", mask_sha256))


def _file_in(text: str) -> str:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    name = found.get("filename") if isinstance(found, dict) else None
    return name if isinstance(name, str) else ""


def _uploaded(name: str) -> Response:
    return JSONResponse({"name": name, "subfolder": "", "type": "input"})


@router.get("/object_info")
async def object_info(request: Request) -> Response:
    """Every node that a workflow may have."""
    return JSONResponse(described.object_info(dependencies_of(request).models()))


@router.get("/object_info/{node_class}")
async def object_info_of(request: Request, node_class: str) -> Response:
    """One of them; nothing for any other."""
    found = described.object_info(dependencies_of(request).models())
    return JSONResponse({node_class: found[node_class]} if node_class in found else {})


@router.get("/embeddings")
async def embeddings(request: Request) -> Response:
    """What a text can name as `embedding:NAME`."""
    return JSONResponse(list(models.named("embedding", dependencies_of(request).models().values())))


@router.get("/models")
async def model_folders() -> Response:
    """The folders that have models."""
    return JSONResponse(list(models.FOLDERS))


@router.get("/models/{folder}")
async def models_in(request: Request, folder: str) -> Response:
    """The models of one of them. Errors: PageNotFound."""
    if folder not in models.FOLDERS:
        raise PageNotFound(hint=f"there is no folder {folder[:80]!r}; there are: {', '.join(models.FOLDERS)}")
    return JSONResponse(models.named(models.FOLDERS[folder], dependencies_of(request).models().values()))


@router.get("/system_stats")
async def system_stats(request: Request) -> Response:
    """This gateway's machine, and the devices of the runners."""
    heartbeats = dependencies_of(request).heartbeats().values()
    system: dict[str, Any] = {  # Any: JSON
        "os": platform.system().lower(),
        "ram_total": _memory_bytes("SC_PHYS_PAGES"),
        "ram_free": _memory_bytes("SC_AVPHYS_PAGES"),
        "comfyui_version": f"dreamforge-{version('dreamforge-gateway')}",
        "python_version": platform.python_version(),
        "embedded_python": False,
        "argv": [],
    }
    devices = [
        {
            "name": each.device.name,
            "type": each.device.kind,
            "index": index,
            "vram_total": each.device.total_bytes,
            "vram_free": each.free_bytes,
            "torch_vram_total": each.budget_bytes,
            "torch_vram_free": each.free_bytes,
        }
        for index, each in enumerate(heartbeats)
    ]
    return JSONResponse({"system": system, "devices": devices})


def _memory_bytes(pages: str) -> int:
    """0 where the system does not say."""
    try:
        return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
