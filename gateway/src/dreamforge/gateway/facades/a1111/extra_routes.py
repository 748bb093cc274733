"""Finished images enlarged, by A1111's API: each image is a job of its upscaler."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.gateway.facades import runs
from dreamforge.gateway.facades.a1111.images import image_in
from dreamforge.gateway.facades.a1111.routes import IMAGES_MAX, body_bytes, job_key
from dreamforge.gateway.facades.a1111.upscalers import Extras, extras_of, finished_size, job_of
from dreamforge.gateway.facades.json_body import json_object
from dreamforge.gateway.http.errors import InvalidRequest, JobNotCompleted, Violation, pointer
from dreamforge.gateway.routes.common import dependencies_of

router = APIRouter(prefix="/sdapi/v1", include_in_schema=False)


@router.post("/extra-single-image")
async def enlarge_one(request: Request) -> Response:
    """An image, enlarged."""
    body = await json_object(request, body_bytes(request, 1))
    asked, model = extras_of(body, dependencies_of(request).models())
    data = await asyncio.to_thread(image_in, body.get("image"), "image")
    return JSONResponse({"html_info": "", "image": await _enlarged(request, data, asked, model)})


@router.post("/extra-batch-images")
async def enlarge_several(request: Request) -> Response:
    """Images, enlarged one after the other. Errors: InvalidRequest where there is none, or more than are taken."""
    body = await json_object(request, body_bytes(request, IMAGES_MAX))
    asked, model = extras_of(body, dependencies_of(request).models())
    images = await asyncio.to_thread(lambda: [image_in(each, *place) for place, each in _listed(body)])
    found = [await _enlarged(request, data, asked, model, index) for index, data in enumerate(images)]
    return JSONResponse({"html_info": "", "images": found})


def _listed(body: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], object]]:
    """The images of a list, each with its place. Any: JSON."""
    images = body.get("imageList")
    if not isinstance(images, list) or not 0 < len(images) <= IMAGES_MAX:
        says = f"must be a list of 1 to {IMAGES_MAX} images, each with its data"
        raise InvalidRequest(violations=(Violation(says, pointer(("imageList",))),))
    return [
        (("imageList", index, "data"), each.get("data") if isinstance(each, dict) else each)
        for index, each in enumerate(images)
    ]


async def _enlarged(request: Request, data: bytes, asked: Extras, model: ModelDescriptor, index: int = 0) -> str:
    """The image that a job made of it, in base64; `index`: of the request. Errors: as of a job; JobNotCompleted."""
    kept = await runs.keep_sized_image(request, data)
    fields = job_of(model, kept.sha256, finished_size(asked, (kept.width_px, kept.height_px)))
    job_id = await runs.start(request, fields, f"{job_key(request)}.{index}")
    ended = await runs.finish_while_connected(request, job_id)
    if ended.event != "succeeded":
        raise JobNotCompleted(job_id=job_id, ended=ended.event or "not ended yet", reason=ended.message)
    return base64.b64encode(await runs.image_bytes(request, ended.images[0])).decode()
