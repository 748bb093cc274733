"""Making a job: the shell around `accept`. The only path that must be fast."""

from starlette.requests import Request

from dreamforge.contracts.errors import InvalidInput, LimitReached
from dreamforge.contracts.placement import needs_of
from dreamforge.gateway.dependencies import Gate
from dreamforge.gateway.http.errors import BodyTooLarge
from dreamforge.gateway.http.middleware import Context
from dreamforge.gateway.submit.accept import SubmissionContext, accept, fingerprint
from dreamforge.gateway.submit.capacity import require_fit
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.event_store import Loaded, Outcome


async def body_of(request: Request, maximum_bytes: int) -> bytes:
    """The body, never keeping more than the maximum, whatever Content-Length says.

    Errors: BodyTooLarge at once; the server then reads the rest and forgets it, because a client that is cut off
    while it sends would not see the answer.
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
    return b"".join(parts)


async def submit(gate: Gate, body: bytes, *, tenant: str, key: str | None, context: Context) -> tuple[str, Outcome]:
    """Append JobRequested and give the job's id and what came of it; no events mean that it was there already.

    Without a key the id is new, so there is nothing to load. With one, the append itself finds out: a repeat
    conflicts with version 0 and only then is the job read.
    Errors: InvalidInput of `accept`, ModelTooLarge, UnknownUpload, QueueFull, TenantQueueFull, IdempotencyConflict,
    DependencyAway.
    """
    store = gate.log.store
    job_id = ids.job_id_for(tenant, key)
    submitted = SubmissionContext(job_id, clock.now(), tenant, key, ids.new_seed())
    try:
        gate.room.require(tenant)
        models = gate.registry().models
        command = accept(body, submitted, schema=gate.schema, models=models, limits=gate.settings.limit)
        require_fit(needs_of(command.request), models, gate.live_fleet().live().values())
        await gate.uploads.require(command.request)
    except (InvalidInput, LimitReached):
        # What was accepted once stays accepted, even if its model is gone or the limits are lower by now.
        if key is not None and (repeat := await _repeat(gate, job_id, body)) is not None:
            return job_id, repeat
        raise
    outcome = await store.execute(job_id, command, known=Loaded(), traceparent=context.traceparent)
    if outcome.events:
        gate.room.taken(tenant)
    return job_id, outcome


async def _repeat(gate: Gate, job_id: str, body: bytes) -> Outcome | None:
    """The job that this very body has made before, if any."""
    loaded = await gate.log.store.load(job_id)
    if loaded.version and loaded.state.fingerprint is not None and loaded.state.fingerprint == fingerprint(body):
        return Outcome((), loaded.state, loaded.version)
    return None
