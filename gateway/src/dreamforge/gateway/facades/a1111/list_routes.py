"""What there is, by A1111's API and that of its ControlNet extension; and what there is not, refused by name."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dreamforge.gateway.facades.a1111 import answers
from dreamforge.gateway.facades.a1111.control import CONTROLNET, unit_models
from dreamforge.gateway.facades.a1111.modules import module_list
from dreamforge.gateway.facades.a1111.names import control_title_of
from dreamforge.gateway.http.errors import InvalidRequest, Violation
from dreamforge.gateway.routes.common import dependencies_of

router = APIRouter(include_in_schema=False)
ROOT = "/sdapi/v1"
#: What is the same everywhere: there is none of it, but for the one extension that is served.
CONSTANT: Mapping[str, Any] = {  # Any: JSON
    "hypernetworks": [],
    "face-restorers": [],
    "realesrgan-models": [],
    "prompt-styles": [],
    "scripts": {"txt2img": [CONTROLNET], "img2img": [CONTROLNET]},
    "script-info": [],
    "extensions": [],
    "cmd-flags": {"api": True, "nowebui": True},
}
#: What needs nothing done: models come from the log of this installation at once.
REFRESHED = frozenset(("refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings"))
_NO_MEMORY = "is not served here: which model is in memory, runners decide by the jobs that wait"
REFUSED: Mapping[str, str] = {
    "interrogate": "is not served here: there is no model that describes images",
    "unload-checkpoint": _NO_MEMORY,
    "reload-checkpoint": _NO_MEMORY,
    "detect": "is not served here: name the module in a unit, and it is applied where the image is rendered",
}


@router.get(f"{ROOT}/sd-models")
async def list_checkpoints(request: Request) -> Response:
    """The models that can be selected."""
    return JSONResponse(answers.sd_models(dependencies_of(request).models()))


@router.get(f"{ROOT}/samplers")
async def list_samplers(request: Request) -> Response:
    """The samplers."""
    return JSONResponse(answers.samplers(dependencies_of(request).models()))


@router.get(f"{ROOT}/embeddings")
async def list_embeddings(request: Request) -> Response:
    """The embeddings, which a prompt names by a word."""
    return JSONResponse(answers.embeddings(dependencies_of(request).models()))


@router.get(f"{ROOT}/schedulers")
async def list_schedulers() -> Response:
    """The schedules of samplers."""
    return JSONResponse(answers.schedulers())


@router.get(f"{ROOT}/loras")
async def list_loras(request: Request) -> Response:
    """The LoRAs that a prompt can name."""
    return JSONResponse(answers.loras(dependencies_of(request).models()))


@router.get(f"{ROOT}/sd-vae")
async def list_vaes(request: Request) -> Response:
    """The VAEs that a request can name as `override_settings.sd_vae`."""
    return JSONResponse(answers.vaes(dependencies_of(request).models()))


@router.get(f"{ROOT}/upscalers")
async def list_upscalers(request: Request) -> Response:
    """How a second pass enlarges an image, and which upscalers there are."""
    return JSONResponse(answers.upscalers(dependencies_of(request).models()))


@router.get(f"{ROOT}/latent-upscale-modes")
async def list_latent_modes(request: Request) -> Response:
    """How a second pass enlarges latents."""
    return JSONResponse(answers.latent_upscale_modes(dependencies_of(request).models()))


@router.get(f"{ROOT}/memory")
async def read_memory(request: Request) -> Response:
    """The memory of the runners."""
    return JSONResponse(answers.memory(dependencies_of(request).heartbeats().values()))


@router.get("/controlnet/version")
async def read_control_version() -> Response:
    """The version of the extension's API whose units are taken."""
    return JSONResponse({"version": 2})


@router.get("/controlnet/model_list")
async def list_controlnets(request: Request) -> Response:
    """The ControlNets and IP-Adapters."""
    models = dependencies_of(request).models()
    return JSONResponse({"model_list": [*map(control_title_of, unit_models(models))]})


@router.get("/controlnet/module_list")
async def list_preprocessors() -> Response:
    """The preprocessors of images, with their sliders."""
    return JSONResponse(module_list())


@router.get("/controlnet/settings")
async def read_control_settings(request: Request) -> Response:
    """How many units a request may have."""
    return JSONResponse({"control_net_unit_count": dependencies_of(request).limits.control})


@router.get(f"{ROOT}/{{name}}")
async def read_constant(name: str) -> Response:
    """What is the same everywhere. Errors: HTTPException(404)."""
    if name not in CONSTANT:
        raise HTTPException(404)
    return JSONResponse(CONSTANT[name])


@router.post("/controlnet/{name}")
@router.post(f"{ROOT}/{{name}}")
async def refuse(name: str) -> Response:
    """What asks for nothing, or for what is not served. Errors: InvalidRequest, HTTPException(404)."""
    if name in REFRESHED:
        return JSONResponse(None)
    if name not in REFUSED:
        raise HTTPException(404)
    raise InvalidRequest(violations=(Violation(REFUSED[name], parameter=name),))
