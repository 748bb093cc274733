"""`GET /v1/jobs/{id}/events` as a raw ASGI response: history, then live events, many in one write."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dreamforge.contracts.errors import DependencyAway, JobNotFound
from dreamforge.contracts.events import ERASURE_EVENTS
from dreamforge.contracts.jobs.state import fold
from dreamforge.contracts.log.streams import JOBS, STEPS
from dreamforge.contracts.log.subjects import job_filter
from dreamforge.gateway.events.hub import Hub, Subscription, nothing
from dreamforge.gateway.events.live import LiveStream, access_of
from dreamforge.gateway.events.sse import SseEvent, StreamCursor, accepted, merge, sse_events_of
from dreamforge.gateway.http.cursor import EventCursor
from dreamforge.gateway.http.server_protocol import ABORT, DETACH
from dreamforge.runtime.log.archived import whole
from dreamforge.runtime.log.bus import ApiError, Bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.log.job_steps import steps_after
from dreamforge.runtime.log.newest_readable import last_readable

# A write of this size keeps the transport's buffer near its high-water mark (64 KiB), so a slow client is seen early.
CHUNK_EVENTS = 64
# Jobs of a batch whose history is read at the same time.
READS_AT_ONCE = 16
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def open_stream(
    hub: Hub, job_ids: Sequence[str], cursor: EventCursor, on_close: Callable[[], None] = nothing
) -> Response:
    """The stream of one job or of several after a cursor; 204 if the client has seen the end of all of them, so that it
    does not reconnect.

    The subscription is opened before history is read, and both are numbered by the log: what is in both is sent once.
    History is read at least as far as the hub had distributed before the subscription, whichever replica answers: so
    every fact is in one of the two.
    `on_close` is called once, when it has ended or was not opened. Errors: JobNotFound, StreamsFull, DependencyAway.
    """
    subscription = await hub.open(*job_ids, on_close=on_close)
    try:
        cursor = await cursor_in_log(hub, cursor)
        facts, steps = await history(hub, subscription, cursor)
        if not facts:
            raise JobNotFound(job_id=job_ids[0])
        shown = {fact.job_id for fact in facts}
        if _ended(facts) == shown and facts[-1].sequence <= cursor.facts:
            hub.close(subscription)
            return Response(status_code=204, headers=HEADERS)
    except BaseException:
        hub.close(subscription)
        raise
    events = merge(facts, steps) if len(job_ids) == 1 else [*facts, *steps]
    return EventStream(hub, subscription, events, cursor, jobs=len(shown))


def _ended(facts: Iterable[SseEvent]) -> set[str]:
    return {event.job_id for event in facts if event.terminal}


async def cursor_in_log(hub: Hub, cursor: EventCursor) -> EventCursor:
    """The cursor as far as this log goes: past an end that was lost it would hide all that follows.

    One of another log, or of a part of this one that was lost, starts at the beginning.
    """
    cursor = cursor.in_log(hub.log)
    try:
        if cursor.steps > hub.sequences[STEPS.name]:
            cursor = replace(cursor, steps=min(cursor.steps, await last_sequence(hub.bus, STEPS.name)))
        if cursor.facts > hub.sequences[JOBS.name] and cursor.facts > await last_sequence(hub.bus, JOBS.name):
            cursor = replace(cursor, facts=0)
    except ApiError as error:
        raise DependencyAway(dependency="nats", reason=str(error)) from error
    return cursor


async def history(hub: Hub, subscription: Subscription, cursor: EventCursor) -> tuple[list[SseEvent], list[SseEvent]]:
    """All facts, and the steps from a cursor's on, without a gap before what the subscription holds.

    The step of the cursor itself says what the client has, should its number be given again: see `progress_of`.
    Of several jobs, the steps of those that have not ended.
    """
    job_ids = subscription.job_ids
    steps: list[SseEvent] = []
    while True:
        subscription.missed = False
        covering = hub.sequences[JOBS.name]
        facts = await _of_each(job_ids, partial(_facts, hub, covering))
        ended = _ended(facts) if len(job_ids) > 1 else set()
        after = steps[-1].sequence if steps else max(0, cursor.steps - 1)
        going_on = [each for each in job_ids if each in {fact.job_id for fact in facts} - ended]
        steps += await _of_each(going_on, partial(_steps, hub.bus, after))
        if not subscription.missed:
            subscription.reading_history = False
            return facts, steps


async def _of_each(
    job_ids: Sequence[str], read: Callable[[str], Coroutine[None, None, list[SseEvent]]]
) -> list[SseEvent]:
    """What is read of each job, in the order of the log."""
    found: list[SseEvent] = []
    for first in range(0, len(job_ids), READS_AT_ONCE):
        for events in await asyncio.gather(*map(read, job_ids[first : first + READS_AT_ONCE])):
            found += events
    if len(job_ids) > 1:
        found.sort(key=lambda event: event.sequence)
    return found


async def _facts(hub: Hub, covering: int, job_id: str) -> list[SseEvent]:
    """The events of a job up to its end; none of one that is going to be erased."""
    found, _ = await last_readable(hub.bus, JOBS.name, job_filter(job_id), covering=covering)
    found = await whole(job_id, found, hub.archive)
    if fold(recorded.event for _, recorded in found).hidden:
        return []
    return accepted(sse_events_of(m for m, each in found if not isinstance(each.event, ERASURE_EVENTS)))


async def facts_of(hub: Hub, job_id: str) -> list[SseEvent]:
    """The facts of one job, as far as the hub has distributed them at least. Errors: DependencyAway."""
    return await _facts(hub, hub.sequences[JOBS.name], job_id)


async def _steps(bus: Bus, after: int, job_id: str) -> list[SseEvent]:
    return sse_events_of(await steps_after(bus, job_id, after))


class EventStream(Response):
    """Owns its subscription: closed when the response ends, however it ends."""

    media_type = "text/event-stream"

    def __init__(
        self, hub: Hub, subscription: Subscription, history: list[SseEvent], cursor: EventCursor, *, jobs: int
    ) -> None:
        """`jobs`: how many must end before the stream does."""
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._history: Iterable[SseEvent] = history
        self._live = LiveStream(hub, subscription, StreamCursor(cursor, jobs=jobs), partial(_steps, hub.bus))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the history in this task; what is live is sent without one where the server can do that."""
        live, extensions = self._live, scope.get("extensions", {})
        live.subscription.access = access_of(scope)
        live.subscription.on_overflow = extensions.get(ABORT) or live.subscription.end
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send_history(send)
        except BaseException:
            live.close()
            raise
        if (detach := extensions.get(DETACH)) is not None:
            live.detach(detach)
        else:
            await live.run(receive, send)

    async def _send_history(self, send: Send) -> None:
        history, self._history = iter(self._history), ()
        while events := list(islice(history, CHUNK_EVENTS)):
            if self._live.subscription.overflowed or self._live.subscription.refused:
                return
            if frames := self._live.frames(events):
                await send({"type": "http.response.body", "body": b"".join(frames), "more_body": True})
