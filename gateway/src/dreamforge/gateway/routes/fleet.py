"""What can be requested, and which runners render it: models, presets, runners."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import RowMapping
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, Token
from dreamforge.contracts.placement import Needs
from dreamforge.contracts.replies import (
    ModelList,
    ModelReply,
    OpenAiModel,
    PresetList,
    PresetReply,
    RunnerList,
    RunnerReply,
)
from dreamforge.contracts.request.schema import request_schema
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import identity_of
from dreamforge.gateway.read import queries
from dreamforge.gateway.routes.common import dependencies_of, reply_if_changed
from dreamforge.gateway.settings import pairs_of
from dreamforge.gateway.submit.capacity import fits

router = APIRouter(prefix="/v1", tags=["catalog"])


def _needs(model: ModelDescriptor, preset: Preset) -> Needs:
    return Needs(model.model_id, preset.height_px, preset.width_px, frames=preset.frames or 1)


@router.get("/models", response_model=ModelList, responses=doc.UNCHANGED | doc.problems(503))
async def list_models(request: Request) -> Response:
    """Every registered model, with the live runners that have it."""
    dependencies = dependencies_of(request)
    models, heartbeats = dependencies.models().values(), list(dependencies.heartbeats().values())
    default = next((model.model_id for model in models if model.kind == "pipeline"), None)
    limits = dependencies.limits
    found = tuple(
        ModelReply(
            descriptor=model,
            default=model.model_id == default,
            parameters=request_schema(model, limits) if model.kind == "pipeline" else None,
            runners=tuple(each.runner_id for each in heartbeats if model.model_id in each.model_ids),
            resident_on=tuple(each.runner_id for each in heartbeats if model.model_id in each.resident_model_ids),
        )
        for model in models
    )
    aliases = pairs_of(dependencies.settings.gateway_openai_models)
    names = [model.model_id for model in models if model.kind == "pipeline"] + list(aliases)
    return reply_if_changed(request, ModelList(models=found, data=tuple(OpenAiModel(id=name) for name in names)))


@router.get("/presets", response_model=PresetList, responses=doc.UNCHANGED | doc.problems(422, 503))
async def list_presets(
    request: Request, model_id: Annotated[Token | None, Query(description="only of this model")] = None
) -> Response:
    """Every preset of every model, and on which live runners it fits."""
    dependencies = dependencies_of(request)
    models, heartbeats = dependencies.models(), list(dependencies.heartbeats().values())
    found = tuple(
        PresetReply(
            model_id=model.model_id,
            default=index == 0,
            preset=preset,
            runners=fits(_needs(model, preset), models, heartbeats),
        )
        for model in models.values()
        if model_id in (None, model.model_id)
        for index, preset in enumerate(model.presets)
    )
    return reply_if_changed(request, PresetList(presets=found))


@router.get("/runners", response_model=RunnerList, responses=doc.UNCHANGED | doc.problems(503))
async def list_runners(request: Request) -> Response:
    """Every runner: what the log says of it, and its latest heartbeat."""
    dependencies = dependencies_of(request)
    heartbeats = dependencies.heartbeats()
    if identity_of(request).sees is not None:  # which jobs they render is their tenants' business
        heartbeats = {name: without_job_ids(heartbeat) for name, heartbeat in heartbeats.items()}
    rows = {row["runner_id"]: row for row in await dependencies.database.rows(queries.all_runners())}
    names = sorted(rows.keys() | heartbeats.keys())
    return reply_if_changed(
        request, RunnerList(runners=tuple(_runner(rows.get(name), heartbeats.get(name)) for name in names))
    )


def without_job_ids(heartbeat: Heartbeat) -> Heartbeat:
    """A heartbeat that shows how busy a runner is, and not with what."""
    unnamed = {
        name: tuple(attempt.model_copy(update={"job_id": ""}) for attempt in attempts)
        for name, attempts in (("active", heartbeat.active), ("ending", heartbeat.ending))
    }
    return heartbeat.model_copy(update=unnamed)


def _runner(row: RowMapping | None, heartbeat: Heartbeat | None) -> RunnerReply:
    """The row wins; a runner with a heartbeat that is not in the tables yet is shown as its heartbeat says."""
    if row is not None:
        known = {name: row[name] for name in RunnerReply.model_fields if name != "heartbeat"}
        return RunnerReply.model_validate(known | {"heartbeat": heartbeat})
    assert heartbeat is not None
    return RunnerReply(
        runner_id=heartbeat.runner_id,
        instance_id=heartbeat.instance_id,
        status="online",
        renderer=heartbeat.renderer,
        device=heartbeat.device,
        slots=heartbeat.slots,
        model_ids=heartbeat.model_ids,
        registered_at=None,
        changed_at=None,
        heartbeat=heartbeat,
    )
