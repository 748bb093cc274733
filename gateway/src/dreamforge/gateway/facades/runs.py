"""What every facade does with a job: submit it, follow it, fetch its images. The only way from here to the rest."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping
from starlette.requests import ClientDisconnect, Request

from dreamforge.contracts.errors import DependencyAway, JobNotFound
from dreamforge.contracts.events import TERMINAL_EVENTS
from dreamforge.contracts.jobs import owner
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.quotas import Quota
from dreamforge.contracts.replies import UploadReply
from dreamforge.contracts.request.workflow import Workflow
from dreamforge.contracts.tenants import ConfigureTenant
from dreamforge.gateway.events.sse import sse_events_of
from dreamforge.gateway.events.watch import JobEventData, data_of, watch
from dreamforge.gateway.http.authentication import actor_of, identity_of
from dreamforge.gateway.http.errors import ProjectionBehind, StillRunning
from dreamforge.gateway.http.middleware import at_end_of, context_of
from dreamforge.gateway.http.root_path import root_of
from dreamforge.gateway.read import queries
from dreamforge.gateway.read.workflows import open_workflows, workflow_jobs
from dreamforge.gateway.routes.common import (
    JOB_ID_CHARS,
    catch_up,
    dependencies_of,
    keep_upload_for,
    room_for_upload,
    submit_for,
    tenant_of,
    visible_job,
)
from dreamforge.gateway.submit.image_tasks import MaskChange
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.aggregate import TENANT
from dreamforge.runtime.log.bus import ApiError
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.log.job_steps import steps_after
from dreamforge.runtime.service import tasks
from dreamforge.runtime.storage.objects import object_key

HOLDS_STREAM = "dreamforge.holds-stream"
ENDS = frozenset(event.TOKEN for event in TERMINAL_EVENTS)


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """A finished image of a job."""

    artifact_id: str
    index: int
    sha256: str
    content_type: str
    width_px: int
    height_px: int
    seed: int
    recipe: Mapping[str, Any]  # Any: free JSON of the renderer


@dataclass(frozen=True, slots=True)
class EndedJob:
    """How a job ended: `event` is succeeded, failed or cancelled; None if this process stops before that."""

    job_id: str
    event: str | None
    images: tuple[FinishedImage, ...]
    message: str | None
    """Why it failed."""


async def start(
    request: Request,
    fields: Mapping[str, object],
    key: str | None = None,
    *,
    workflow: Workflow | None = None,
    followed: bool = True,
) -> str:
    """Submit a job with the fields of `POST /v1/jobs`, for the tenant of the request; its id.

    `workflow`: what it was translated from, recorded with it.
    `followed`: by `events`, so the request is a stream of its tenant from now on: no job without room for it.
    Errors: QuotaExceeded; as `submit`.
    """
    if followed:
        _hold_stream(request)
    body = json.dumps(fields).encode()
    job_id, _ = await submit_for(request, body, key, workflow)
    return job_id


async def events(request: Request, job_id: str) -> AsyncIterator[JobEventData]:
    """Every event of a job of the sender's, until it has ended, as a stream of its tenant.

    Errors: QuotaExceeded; as `watch`.
    """
    await visible_job(request, job_id)
    _hold_stream(request)
    async for event in watch(dependencies_of(request).log.hub, job_id):
        yield event


def _hold_stream(request: Request) -> None:
    """The request is one stream of its tenant until it ends, however many jobs it follows. Errors: QuotaExceeded."""
    if request.scope.setdefault(HOLDS_STREAM, False):
        return
    at_end_of(request).enter_context(dependencies_of(request).quotas.held(tenant_of(request), Quota.STREAMS))
    request.scope[HOLDS_STREAM] = True


async def finish(request: Request, job_id: str) -> EndedJob:
    """Wait for the end of a job, until its images can be fetched by their paths. Errors: as `watch`."""
    facts = [event async for event in events(request, job_id) if event["event"] != "step"]
    await catch_up(dependencies_of(request), *(fact["sequence"] for fact in facts[-1:]))
    return ended_job(job_id, facts)


def ended_job(job_id: str, facts: list[JobEventData]) -> EndedJob:
    """How a job ended, from its events."""
    images = {fact["index"]: _image(job_id, fact) for fact in facts if fact["event"] == "artifact"}
    last = facts[-1] if facts else {"event": ""}
    ended = last["event"] if last["event"] in ENDS else None
    return EndedJob(job_id, ended, tuple(images[index] for index in sorted(images)), last.get("message"))


async def image_bytes(request: Request, image: FinishedImage) -> bytes:
    """The bytes of an image, as its tenant gives them away. Errors: ArtifactNotFound, DependencyAway."""
    images = dependencies_of(request).images_for(tenant_of(request))
    return await images.get(object_key(image.sha256))


def image_path(request: Request, image: FinishedImage) -> str:
    """Where the gateway serves an image, relative to its own address."""
    return f"{root_of(request)}/v1/artifacts/{image.artifact_id}"


async def workflow_rows(
    request: Request,
    *,
    statuses: Collection[Status],
    limit: int,
    offset: int = 0,
    job_id: str | None = None,
    client_id: str | None = None,
) -> list[RowMapping]:
    """The jobs of the sender's tenant that were workflows, newest first, with every write that is in the log by now.

    Errors: DependencyAway, ProjectionBehind.
    """
    dependencies = dependencies_of(request)
    await up_to_date(request)
    statement = workflow_jobs(
        tenant_of(request), statuses=statuses, limit=limit, offset=offset, job_id=job_id, client_id=client_id
    )
    return list(await dependencies.database.rows(statement))


async def open_workflow_number(request: Request) -> int:
    """How many of them have not ended, by the tables. Errors: DependencyAway."""
    row = await dependencies_of(request).database.row(open_workflows(tenant_of(request)))
    return row["number"] if row is not None else 0


async def up_to_date(request: Request) -> None:
    """Wait until the tables have everything that is in the log by now. Errors: DependencyAway, ProjectionBehind."""
    dependencies = dependencies_of(request)
    try:
        last = await last_sequence(dependencies.log.bus, JOBS.name)
    except ApiError as error:
        raise DependencyAway(dependency="nats", reason=str(error)) from error
    await catch_up(dependencies, last)


def job_id_of_key(request: Request, key: str) -> str:
    """The id of the job that this key of the sender's tenant makes."""
    return ids.job_id_for(tenant_of(request), key)


async def artifact_hash(request: Request, artifact_id: str) -> str | None:
    """The hash of a finished image of the sender's; None where there is none. Errors: DependencyAway."""
    try:
        await visible_job(request, artifact_id[:JOB_ID_CHARS])
    except JobNotFound:
        return None
    row = await dependencies_of(request).database.row(queries.artifact(artifact_id))
    return row["sha256"] if row is not None else None


async def reached(request: Request, sequence: int) -> None:
    """Wait until the tables have an event; no longer than a read would. Errors: DependencyAway."""
    with contextlib.suppress(ProjectionBehind):
        await catch_up(dependencies_of(request), sequence)


async def keep_image(request: Request, data: bytes) -> str:
    """Store an image that a job shall start from; its hash, which names it in a request. Errors: as of an upload."""
    with room_for_upload(request):
        return (await keep_upload_for(request, data)).sha256


async def keep_sized_image(request: Request, data: bytes) -> UploadReply:
    """As `keep_image`, with its size as a viewer shows it."""
    with room_for_upload(request):
        return await keep_upload_for(request, data)


async def keep_mask_of_alpha(request: Request, data: bytes) -> str:
    """As `keep_image`, of a mask that says by transparency what is rendered again. Errors: BadPicture too."""
    with room_for_upload(request):
        mask = await dependencies_of(request).uploads.mask_of_alpha(data)
        return (await keep_upload_for(request, mask)).sha256


async def keep_mask(request: Request, data: bytes, change: MaskChange) -> str:
    """As `keep_image`, of a mask that is changed before it is kept. Errors: BadPicture too."""
    with room_for_upload(request):
        mask = await dependencies_of(request).uploads.changed_mask(data, change)
        return (await keep_upload_for(request, mask)).sha256


async def mask_from(request: Request, sha256: str, *, by_alpha: bool, grow_px: int | None = None) -> str:
    """A mask made of an image that is stored: its hash. `grow_px`: rounded, and grown.

    Errors: UnknownUpload, BadPicture, those of an upload.
    """
    uploads = dependencies_of(request).uploads
    with room_for_upload(request):
        mask = await uploads.read("mask_image", sha256, identity_of(request).sees)
        if by_alpha:
            mask = await uploads.mask_of_alpha(mask)
        if grow_px is not None:
            mask = await uploads.changed_mask(mask, MaskChange(rounded=True, grown_px=grow_px))
        return (await keep_upload_for(request, mask)).sha256


async def image_size(request: Request, field: str, sha256: str) -> tuple[int, int]:
    """Width and height in pixels of a stored image that a field is about. Errors: those of `Uploads.size_of`."""
    return await dependencies_of(request).uploads.size_of(field, sha256, identity_of(request).sees)


async def finish_or_cancel(request: Request, job_id: str) -> EndedJob:
    """As `finish_while_connected`, for interfaces whose request is the job: one that is given up cancels it."""
    try:
        return await finish_while_connected(request, job_id)
    except ClientDisconnect:
        await cancel(request, job_id)
        raise


async def finish_while_connected(request: Request, job_id: str) -> EndedJob:
    """As `finish`, while there is a client that waits for it.

    Errors: ClientDisconnect, StillRunning past `gateway_answer_seconds`; either way the job goes on.
    """
    gone = asyncio.create_task(_until_gone(request), name="client-gone")
    ending = asyncio.create_task(finish(request, job_id), name="finish")
    seconds = dependencies_of(request).settings.gateway_answer_seconds
    try:
        done, _ = await asyncio.wait((gone, ending), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await tasks.cancel(gone)
        if not ending.done():
            await tasks.cancel(ending)
    if ending in done:
        return ending.result()
    if not done:
        raise StillRunning(job_id=job_id, seconds=seconds)
    raise ClientDisconnect


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def cancel(request: Request, job_id: str) -> None:
    """Ask for the end of a job of the sender's. Errors: JobNotFound, DependencyAway."""
    command = owner.RequestCancel(clock.now())
    await dependencies_of(request).store.execute(
        await visible_job(request, job_id),
        command,
        traceparent=context_of(request).traceparent,
        actor=actor_of(request),
    )


@dataclass(frozen=True, slots=True)
class UnfinishedJob:
    """A job that has not ended; `images`: how many were asked for."""

    job_id: str
    running: bool
    images: int
    requested_at: datetime


async def open_jobs(request: Request, key_prefix: str) -> tuple[UnfinishedJob, ...]:
    """The open jobs of the sender's tenant whose idempotency key begins so, in the order in which they were requested.

    All that this gateway has seen in the log are among them. Errors: DependencyAway, ProjectionBehind.
    """
    dependencies = dependencies_of(request)
    await catch_up(dependencies, dependencies.log.hub.sequences[JOBS.name])
    rows = await dependencies.database.rows(queries.open_jobs_of(tenant_of(request), key_prefix))
    return tuple(
        UnfinishedJob(
            job_id=row["job_id"],
            running=row["started_at"] is not None,
            images=row["request"].get("images", 1),
            requested_at=row["requested_at"],
        )
        for row in rows
    )


async def steps(request: Request, job_id: str) -> list[JobEventData]:
    """The steps of a job of the sender's, as far as they are known. Errors: JobNotFound, DependencyAway."""
    found = await steps_after(dependencies_of(request).log.bus, await visible_job(request, job_id), 0)
    return [data_of(event) for event in sse_events_of(found)]


async def selected_model(request: Request) -> str | None:
    """The model that the sender's tenant has selected, whichever gateway it told so. Errors: DependencyAway."""
    return (await dependencies_of(request).store.read(TENANT, tenant_of(request))).state.selected_model


async def select_model(request: Request, model_id: str) -> None:
    """Select a model for the requests of the sender's tenant that leave it to the interface. Errors: DependencyAway."""
    await dependencies_of(request).store.handle(
        TENANT,
        tenant_of(request),
        ConfigureTenant(clock.now(), {}, selected_model=model_id),
        traceparent=context_of(request).traceparent,
        actor=actor_of(request),
    )


def _image(job_id: str, fact: JobEventData) -> FinishedImage:
    return FinishedImage(
        artifact_id=f"{job_id}-{fact['attempt']}-{fact['index']}",
        index=fact["index"],
        sha256=fact["sha256"],
        content_type=fact["content_type"],
        width_px=fact["width_px"],
        height_px=fact["height_px"],
        seed=fact["seed"],
        recipe=fact["recipe"],
    )
