"""Makes a job: the I/O around `accept`. The only path that must be fast."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol

from starlette.requests import Request

from dreamforge.contracts.errors import InvalidInput, JobWasErased, LimitReached
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.jobs.decisions import RequestJob
from dreamforge.contracts.log.actor import Actor
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.placement import needs_of
from dreamforge.contracts.request.image_size import ImageSizeNeeded
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.workflow import Workflow
from dreamforge.contracts.tenants import UNCONFIGURED, TenantState
from dreamforge.gateway.http.errors import BodyTooLarge, UnsupportedMedia
from dreamforge.gateway.quotas.tenant_quotas import Admission, TenantQuotas
from dreamforge.gateway.submit.accept import SubmissionContext, accept, fingerprint
from dreamforge.gateway.submit.body import Submission
from dreamforge.gateway.submit.capacity import require_fit
from dreamforge.gateway.submit.uploads import Uploads
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.event_store import NEW_JOB, EventStore, JobOutcome

JSON = "application/json"
LARGE_BYTES = 1024**2


async def body_of(request: Request, maximum_bytes: int) -> bytes:
    """The body, never keeping more than the maximum, whatever Content-Length says.

    Errors: BodyTooLarge at once; the server then reads and discards the rest, because a client whose connection is
    closed while it sends would not see the answer.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > maximum_bytes:
        raise BodyTooLarge(maximum_bytes=maximum_bytes)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > maximum_bytes:
            raise BodyTooLarge(maximum_bytes=maximum_bytes)
        parts.append(part)
    # 16 MiB of fresh memory take 5 to 40 ms; Python joins more than 1 MiB without the interpreter's lock.
    return await asyncio.to_thread(b"".join, parts) if size > LARGE_BYTES else b"".join(parts)


async def json_body_of(request: Request, maximum_bytes: int) -> bytes:
    """As `body_of`, of a request that says that its body is JSON, if it has one.

    A form or script of another site can send text without asking; JSON it can not. Errors: UnsupportedMedia too.
    """
    body = await body_of(request, maximum_bytes)
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and given != JSON and not (given.startswith("application/") and given.endswith("+json")):
        raise UnsupportedMedia(given=given[:80], allowed=(JSON,))
    return body


class SubmissionServices(Protocol):
    """What a submission needs of the gateway's dependencies. Errors: DependencyAway of each that is not available."""

    @property
    def limits(self) -> Limits: ...
    @property
    def schema(self) -> type[Submission]: ...
    @property
    def store(self) -> EventStore: ...
    @property
    def quotas(self) -> TenantQuotas: ...
    @property
    def uploads(self) -> Uploads: ...
    def tenants(self) -> Mapping[str, TenantState]: ...
    def models(self) -> Mapping[str, ModelDescriptor]: ...
    def heartbeats(self) -> Mapping[str, Heartbeat]: ...


async def submit(
    services: SubmissionServices,
    body: bytes,
    *,
    tenant: str,
    sees: str | None,
    key: str | None,
    traceparent: str,
    actor: Actor,
    workflow: Workflow | None = None,
) -> tuple[str, JobOutcome]:
    """Append JobRequested; the id of the job and the outcome, which has no events if the job existed already.

    Without a key the id is new, so there is nothing to load. With one, the append itself finds out: a repeat
    conflicts with version 0 and only then is the job read. `sees`: whose images it may name, None for all.
    `workflow`: what the body was translated from, to be recorded with the job.
    Errors: InvalidInput of `accept` and `require_fit`, UnknownUpload, QueueFull, QuotaExceeded, IdempotencyConflict,
    JobWasErased, DependencyAway.
    """
    with services.quotas.submission() as admission:
        job_id = ids.job_id_for(tenant, key)
        determinism = services.tenants().get(tenant, UNCONFIGURED).determinism
        context = SubmissionContext(job_id, clock.now(), tenant, key, ids.new_seed(), determinism)
        try:
            command = await _admit(services, body, context, sees, admission)
        except (InvalidInput, LimitReached):
            # What was accepted once stays accepted, even if its model is gone or the limits are lower by now.
            if key is not None and (repeat := await _repeat(services.store, job_id, body)) is not None:
                return job_id, repeat
            raise
        if workflow is not None:
            command = replace(command, workflow=workflow)
        outcome = await services.store.execute(job_id, command, known=NEW_JOB, traceparent=traceparent, actor=actor)
        if outcome.events:
            admission.recorded(outcome.version)
        return job_id, outcome


async def preview(services: SubmissionServices, body: bytes, *, tenant: str, sees: str | None) -> RequestJob:
    """What `submit` would make of a body: checked as that is, quotas too, and neither recorded nor counted.

    Errors: as `submit`, without those of a key.
    """
    with services.quotas.submission() as admission:
        determinism = services.tenants().get(tenant, UNCONFIGURED).determinism
        job_id = ids.job_id_for(tenant, None)
        context = SubmissionContext(job_id, clock.now(), tenant, None, ids.new_seed(), determinism)
        return await _admit(services, body, context, sees, admission)


async def _admit(
    services: SubmissionServices, body: bytes, context: SubmissionContext, sees: str | None, admission: Admission
) -> RequestJob:
    """The command that makes the job, if there is room for it. Errors: as `submit`."""
    await services.quotas.require_open_job(context.tenant, admission)
    models = services.models()
    command = await _command(services, body, context, models, sees)
    require_fit(needs_of(command.request), models, services.heartbeats().values())
    await services.quotas.require_pixel_steps(context.tenant, command.request.pixel_steps, admission)
    await services.uploads.require(command.request, sees)
    return command


async def _command(
    services: SubmissionServices,
    body: bytes,
    context: SubmissionContext,
    models: Mapping[str, ModelDescriptor],
    sees: str | None,
) -> RequestJob:
    """What `accept` makes of a body, with the size of its image where the request takes it.

    Errors: InvalidInput of `accept`, UnknownUpload, DependencyAway.
    """
    accepted = partial(accept, body, context, schema=services.schema, models=models, limits=services.limits)
    try:
        return accepted()
    except ImageSizeNeeded as needed:
        size_px = await services.uploads.size_of(needed.field, needed.sha256, sees)
        return accepted(image_sizes={needed.sha256: size_px})


async def _repeat(store: EventStore, job_id: str, body: bytes) -> JobOutcome | None:
    """The job that this very body has made before, if any. Errors: JobWasErased."""
    loaded = await store.load(job_id)
    if loaded.state.hidden:
        raise JobWasErased(job_id=job_id)
    if loaded.version and loaded.state.fingerprint is not None and loaded.state.fingerprint == fingerprint(body):
        return JobOutcome((), loaded.state, loaded.version)
    return None
