"""The routes of OpenAI's image API. A request is a job: who gives it up cancels it."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.request.errors import UnknownModel
from dreamforge.gateway.events.watch import JobEventData
from dreamforge.gateway.facades import runs
from dreamforge.gateway.facades.openai.errors import openai_error
from dreamforge.gateway.facades.openai.forms import form_fields, images_of, json_fields
from dreamforge.gateway.facades.openai.partial_images import PartialImages
from dreamforge.gateway.facades.openai.translate import (
    VARIATION_STRENGTH,
    ImageRequest,
    edited,
    references_max,
    translate,
    variation,
)
from dreamforge.gateway.http.errors import JobNotCompleted
from dreamforge.gateway.http.problems import problem_of
from dreamforge.gateway.routes.common import dependencies_of, key_of
from dreamforge.gateway.settings import pairs_of
from dreamforge.runtime import clock

router = APIRouter(prefix="/v1", include_in_schema=False)
LIVE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
GENERATION, EDIT = "image_generation", "image_edit"


@router.post("/images/generations")
async def generate(request: Request) -> Response:
    """Images from a prompt."""
    wanted = _translated(request, await json_fields(request))
    return await _answer(request, wanted, GENERATION)


@router.post("/images/edits")
async def edit(request: Request) -> Response:
    """An image rendered anew, where its mask is transparent or as a whole, or images changed as the prompt says."""
    fields, files = await form_fields(request)
    return await _from_images(request, fields, files)


@router.post("/images/variations")
async def vary(request: Request) -> Response:
    """Images like another one."""
    fields, files = await form_fields(request)
    return await _from_images(request, variation(fields), files, strength=VARIATION_STRENGTH)


@router.get("/models/{model_id}")
async def read_model(request: Request, model_id: str) -> Response:
    """One model, as OpenAI shows it. Errors: UnknownModel."""
    dependencies = dependencies_of(request)
    name = pairs_of(dependencies.settings.gateway_openai_models).get(model_id, model_id)
    models = dependencies.models()
    if name not in models:
        raise UnknownModel(model_id=model_id[:80], known=tuple(models))
    return JSONResponse({"id": model_id, "object": "model", "created": 0, "owned_by": "dreamforge"})


async def _from_images(
    request: Request, fields: dict[str, Any], files: dict[str, list[bytes]], strength: float | None = None
) -> Response:
    """`strength`: of an image that is rendered over, where the request does not say."""
    wanted = _translated(request, fields)
    model = _model_of(request, wanted)
    images, mask = images_of(files, references_max(model) or 1)
    kept = [await runs.keep_image(request, image) for image in images]
    named = edited(model, kept, None if mask is None else await runs.keep_mask_of_alpha(request, mask))
    usual = {} if strength is None or references_max(model) else {"strength": strength}
    return await _answer(request, replace(wanted, fields={**usual, **wanted.fields, **named}), EDIT)


def _model_of(request: Request, wanted: ImageRequest) -> ModelDescriptor | None:
    """The pipeline that a request names, or the default one; None where there is none: refused with the job."""
    pipelines = {name: model for name, model in dependencies_of(request).models().items() if model.kind == "pipeline"}
    return pipelines.get(wanted.fields.get("model_id", next(iter(pipelines), "")))


def _translated(request: Request, fields: dict[str, Any]) -> ImageRequest:
    dependencies = dependencies_of(request)
    pipelines = {name: model for name, model in dependencies.models().items() if model.kind == "pipeline"}
    return translate(fields, pipelines, pairs_of(dependencies.settings.gateway_openai_models))


async def _answer(request: Request, wanted: ImageRequest, kind: str) -> Response:
    job_id = await runs.start(request, wanted.fields, key_of(request))
    if wanted.stream:
        return StreamingResponse(_frames(request, wanted, kind, job_id), media_type="text/event-stream", headers=LIVE)
    ended = _completed(await runs.finish_or_cancel(request, job_id))
    data = [await _datum(request, wanted, image) for image in ended.images]
    return JSONResponse(
        {"created": _now(), "data": data, "output_format": _format(ended.images[0].content_type), **wanted.echoed},
        headers={"X-Forge-Job": job_id},
    )


def _completed(ended: runs.EndedJob) -> runs.EndedJob:
    """Errors: JobNotCompleted."""
    if ended.event != "succeeded":
        raise JobNotCompleted(job_id=ended.job_id, ended=ended.event or "not ended yet", reason=ended.message)
    return ended


async def _datum(request: Request, wanted: ImageRequest, image: runs.FinishedImage) -> dict[str, object]:
    if wanted.as_url:
        return {"url": f"{str(request.base_url).rstrip('/')}/v1/artifacts/{image.artifact_id}"}
    return {"b64_json": base64.b64encode(await runs.image_bytes(request, image)).decode()}


async def _frames(request: Request, wanted: ImageRequest, kind: str, job_id: str) -> AsyncIterator[bytes]:
    """PartialImages while the job runs, then each image; a client that leaves cancels the job."""
    facts: list[JobEventData] = []
    previews = PartialImages(wanted.partial_images)
    try:
        async for event in runs.events(request, job_id):
            if event["event"] == "step":
                if (shown := previews.take(event)) is not None:
                    yield _frame(f"{kind}.partial_image", {**shown, **_described(wanted, "jpeg")})
                continue
            facts.append(event)
        ended = _completed(runs.ended_job(job_id, facts))
        for image in ended.images:
            datum = await _datum(request, replace(wanted, as_url=False), image)
            yield _frame(f"{kind}.completed", {**datum, **_described(wanted, _format(image.content_type))})
    except ForgeError as error:
        yield _frame("error", dict(openai_error(problem_of(error))))
    finally:
        if not facts or facts[-1]["event"] not in runs.ENDS:
            await runs.cancel(request, job_id)


def _described(wanted: ImageRequest, output_format: str) -> dict[str, object]:
    """What every event of a stream says. The size and quality are those that were asked for."""
    asked = {"size": "auto", "quality": "auto", "background": "auto", **wanted.echoed}
    return {"created_at": _now(), "output_format": output_format, **asked}


def _frame(name: str, data: dict[str, object]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def _format(content_type: str) -> str:
    return content_type.removeprefix("image/")


def _now() -> int:
    return int(clock.now().timestamp())
