"""Generation, its progress and its end, by A1111's API. A job goes on when its client leaves, as there."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dreamforge.contracts.models.descriptor import FAMILY_IMAGE_PROMPTS_MAX
from dreamforge.contracts.pictures.segments import DamagedPicture
from dreamforge.gateway.facades import runs
from dreamforge.gateway.facades.a1111 import answers
from dreamforge.gateway.facades.a1111.bodies import NEUTRAL_SETTINGS, OWN_VAE, Json, not_neutral
from dreamforge.gateway.facades.a1111.images import image_in
from dreamforge.gateway.facades.a1111.names import Models, named, pipelines
from dreamforge.gateway.facades.a1111.png_info import png_info
from dreamforge.gateway.facades.a1111.translate import (
    A1111Request,
    current_model,
    from_image,
    from_text,
    unknown_checkpoint,
)
from dreamforge.gateway.facades.json_body import json_object
from dreamforge.gateway.http.authentication import actor_of
from dreamforge.gateway.http.errors import BadPicture, InvalidRequest, JobNotCompleted, Violation
from dreamforge.gateway.routes.common import dependencies_of, key_of
from dreamforge.runtime import clock, ids

router = APIRouter(prefix="/sdapi/v1", include_in_schema=False)
CHECKPOINT = "sd_model_checkpoint"
#: Images of one request beside those of ControlNet's units: to start from, mask.
IMAGES_MAX = 2
CLIENT_CHARS = 16
Translate = Callable[[Json, Models, str | None], A1111Request]


@router.post("/txt2img")
async def generate_from_text(request: Request) -> Response:
    """Images from a prompt."""
    return await _generate(request, from_text)


@router.post("/img2img")
async def generate_from_image(request: Request) -> Response:
    """Images from a prompt and an image, rendered anew as a whole or where the mask is white."""
    return await _generate(request, from_image)


@router.get("/progress")
async def read_progress(request: Request, skip_current_image: bool = False) -> Response:
    """How far the sender's own job is."""
    jobs = await _own_jobs(request)
    steps = await runs.steps(request, jobs[0].job_id) if jobs else []
    return JSONResponse(answers.progress(jobs, steps, with_image=not skip_current_image))


@router.post("/interrupt")
async def interrupt(request: Request) -> Response:
    """End the sender's own job; its finished images are the answer of its request."""
    for job in (await _own_jobs(request))[:1]:
        await runs.cancel(request, job.job_id)
    return JSONResponse({})


@router.post("/skip")
async def skip(request: Request) -> Response:
    """As `interrupt`, of a job of one image. Errors: InvalidRequest where another image would have to go on."""
    for job in (await _own_jobs(request))[:1]:
        if job.images > 1:
            says = "is not possible in a job of several images: interrupt ends it and keeps those that are finished"
            raise InvalidRequest(violations=(Violation(says, parameter="skip"),))
        await runs.cancel(request, job.job_id)
    return JSONResponse(None)


@router.get("/options")
async def read_options(request: Request) -> Response:
    """The options that there are."""
    return JSONResponse(await _options(request))


@router.post("/options")
async def set_options(request: Request) -> Response:
    """Select the model of later requests; other options may be sent as they are. Errors: InvalidRequest."""
    dependencies = dependencies_of(request)
    given = await json_object(request, dependencies.limits.body_bytes)
    now, name = await _options(request), given.get(CHECKPOINT)
    changed = {each: value for each, value in given.items() if each != CHECKPOINT and value != now.get(each)}
    wrong = list(not_neutral(changed, {**NEUTRAL_SETTINGS, "sd_vae": OWN_VAE}))
    model = named(name, pipelines(dependencies.models())) if isinstance(name, str) else None
    if name is not None and model is None:
        wrong.append(unknown_checkpoint(str(name), dependencies.models()))
    if wrong:
        raise InvalidRequest(violations=tuple(wrong))
    if model is not None and name != now[CHECKPOINT]:
        await runs.select_model(request, model.model_id)
    return JSONResponse(None)


@router.post("/png-info")
async def read_png_info(request: Request) -> Response:
    """What is written in an image. Errors: BadPicture, InvalidRequest."""
    given = await json_object(request, body_bytes(request, 1))
    try:
        found = await asyncio.to_thread(lambda: png_info(image_in(given.get("image"), "image")))
    except DamagedPicture as error:
        raise BadPicture(str(error)) from None
    return JSONResponse(found)


async def _generate(request: Request, translate: Translate) -> Response:
    images_max = IMAGES_MAX + dependencies_of(request).limits.control + FAMILY_IMAGE_PROMPTS_MAX
    body = await json_object(request, body_bytes(request, images_max))
    models, selected = dict(dependencies_of(request).models()), await runs.selected_model(request)
    asked = await asyncio.to_thread(translate, body, models, selected)  # which decodes images
    await _keep_images(request, asked)
    job_id = await runs.start(request, asked.fields, job_key(request))
    if asked.keeps_model:
        await runs.select_model(request, asked.fields["model_id"])
    ended = await runs.finish_while_connected(request, job_id)
    if ended.event not in ("succeeded", "cancelled"):
        raise JobNotCompleted(job_id=job_id, ended=ended.event or "not ended yet", reason=ended.message)
    images = ended.images if asked.sends_images else ()
    answer: dict[str, Any] = {  # Any: JSON
        "images": [base64.b64encode(await runs.image_bytes(request, image)).decode() for image in images],
        "parameters": asked.echoed,
        "info": answers.info(asked, ended.images, clock.now()),
    }
    return JSONResponse(answer, headers={"X-Forge-Job": job_id})


async def _keep_images(request: Request, asked: A1111Request) -> None:
    """Store the images of a request, and name them in its fields. Errors: as of an upload."""
    for field, data in asked.images.items():
        if field == "mask_image" and asked.mask_change is not None:
            asked.fields[field] = await runs.keep_mask(request, data, asked.mask_change)
        else:
            asked.fields[field] = await runs.keep_image(request, data)
    uses = {name: iter(asked.fields.get(name, ())) for name in ("control", "image_prompts")}
    for name, data in asked.unit_images:
        next(uses[name])["image"] = await runs.keep_image(request, data)


def job_key(request: Request) -> str:
    """The idempotency key of a request's job: that of its header, or one of its own, below the client's."""
    return f"{_client(request)}{key_of(request) or ids.new_id()}"


def _client(request: Request) -> str:
    """How the idempotency keys of a client's jobs begin: A1111's API has no ids, so this finds them again.

    A client is a credential at an address.
    """
    actor = actor_of(request)
    digest = hashlib.sha256(f"{actor.id}\n{actor.address}".encode()).hexdigest()
    return f"a1111.{digest[:CLIENT_CHARS]}."


async def _own_jobs(request: Request) -> list[runs.UnfinishedJob]:
    """The open jobs of a client, the one first that A1111 would call current."""
    return sorted(await runs.open_jobs(request, _client(request)), key=lambda job: not job.running)


async def _options(request: Request) -> answers.Reply:
    models = dependencies_of(request).models()
    return answers.options(current_model(models, await runs.selected_model(request)))


def body_bytes(request: Request, images: int) -> int:
    """The largest body of a request with so many images: in base64 each has four thirds of its bytes."""
    limits = dependencies_of(request).limits
    return limits.body_bytes + images * limits.upload_bytes * 4 // 3
