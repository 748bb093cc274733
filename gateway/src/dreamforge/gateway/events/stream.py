"""`GET /v1/jobs/{id}/events` as a raw ASGI response: history, then live, many events a write."""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice

from loguru import logger
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dreamforge.contracts.errors import DependencyAway, JobNotFound
from dreamforge.contracts.log.streams import JOBS, STEPS
from dreamforge.contracts.log.subjects import job_filter, steps_of
from dreamforge.gateway.events.hub import Hub, Tap
from dreamforge.gateway.events.sse import HEARTBEAT, Moment, Reader, merge, moments_of
from dreamforge.gateway.http.cursor import EventCursor
from dreamforge.gateway.http.server_protocol import ABORT
from dreamforge.runtime import ids
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import ApiError, Bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.log.newest_readable import last_readable

# A write of this size keeps the transport's buffer near its high-water mark (64 KiB), so a slow client is seen early.
CHUNK_EVENTS = 64
# Clients of a gateway that goes down come back within this time, not all at once.
RETRY_MILLISECONDS = 2_000
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def open_stream(hub: Hub, job_id: str, cursor: EventCursor) -> Response:
    """The stream of a job after a cursor; 204 if the client has seen the end, so that it does not come back.

    The tap is opened before history is read, and both are numbered by the log: what is in both is sent once. History
    is read as far as was handed out before there was the tap, whichever replica answers: what is in neither is no fact.
    Errors: JobNotFound, StreamsFull, DependencyAway.
    """
    tap = await hub.open(job_id)
    try:
        cursor = await _within(hub, cursor)
        facts, steps = await _history(hub, tap, cursor)
        if not facts:
            raise JobNotFound(job_id=job_id)
        if facts[-1].terminal and facts[-1].sequence <= cursor.facts:
            hub.close(tap)
            return Response(status_code=204, headers=HEADERS)
    except BaseException:
        hub.close(tap)
        raise
    return EventStream(hub, tap, merge(facts, steps), cursor)


async def _within(hub: Hub, cursor: EventCursor) -> EventCursor:
    """The cursor, if STEPS has come so far; one that stands past an end that was lost would hide all that follows."""
    if cursor.steps <= hub.places[STEPS.name]:
        return cursor
    try:
        return EventCursor(cursor.facts, min(cursor.steps, await last_sequence(hub.bus, STEPS.name)))
    except ApiError as error:
        raise DependencyAway(dependency="nats", reason=str(error)) from error


async def _history(hub: Hub, tap: Tap, cursor: EventCursor) -> tuple[list[Moment], list[Moment]]:
    """All facts, and the steps after a cursor, so that nothing is missing between them and what the tap holds."""
    steps: list[Moment] = []
    while True:
        tap.missed = False
        covering = hub.places[JOBS.name]
        found, _ = await last_readable(hub.bus, JOBS.name, job_filter(tap.job_id), covering=covering)
        facts = moments_of(message for message, _ in found)
        steps += await _steps(hub.bus, tap.job_id, steps[-1].sequence if steps else cursor.steps)
        if not tap.missed:
            tap.reading_history = False
            return facts, steps


async def _steps(bus: Bus, job_id: str, after: int) -> list[Moment]:
    """Every step past a place, page by page."""
    found: list[Moment] = []
    while True:
        page = await direct_get.after(bus, STEPS.name, steps_of(job_id), after)
        found += moments_of(page)
        if len(page) < direct_get.MAX_MESSAGES:
            return found
        after = page[-1].sequence


class EventStream(Response):
    """Owns its tap: closed when the response is over, however it ends."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, tap: Tap, history: list[Moment], cursor: EventCursor) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._hub, self._tap = hub, tap
        self._history: Iterable[Moment] = history
        self._reader = Reader(cursor)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tap = self._tap
        abort = scope.get("extensions", {}).get(ABORT)
        tap.on_overflow = abort or tap.end
        watcher = asyncio.create_task(_until_gone(receive, tap), name="sse-disconnect")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._tell_history(send)
            await self._tell_live(send)
            if tap.overflowed and abort is not None:
                await watcher  # until the server knows that the connection is cut
        finally:
            watcher.cancel()
            self._hub.close(tap)
        if tap.overflowed:
            logger.info("dropped a slow client of job {}; it can resume after {}", tap.job_id, self._reader.cursor)
        elif self._reader.ended or tap.draining:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell_history(self, send: Send) -> None:
        history, self._history = iter(self._history), ()
        for moments in _chunks(history):
            if self._tap.overflowed:
                return
            await _write(send, self._reader.frames(moments))

    async def _tell_live(self, send: Send) -> None:
        tap, reader = self._tap, self._reader
        while not reader.ended and not tap.overflowed:
            await tap.wake.wait()
            tap.wake.clear()
            if (steps_end := tap.lost()) is not None:
                reader.lose(steps_end)
            frames = reader.frames(await self._arrived())
            if tap.beat:
                tap.beat = False
                frames.append(HEARTBEAT)
            if tap.draining and not reader.ended:
                frames.append(b"retry: %d\n\n" % ids.jitter(RETRY_MILLISECONDS))
            await _write(send, frames)
            if tap.gone:
                return

    async def _arrived(self) -> list[Moment]:
        """What came since, the end last: the two logs are followed apart, so the end may overtake the last steps."""
        moments = self._tap.take()
        if not any(moment.terminal for moment in moments):
            return moments
        steps = [moment for moment in moments if moment.is_step]
        try:
            steps += await _steps(self._hub.bus, self._tap.job_id, self._reader.cursor.steps)
        except DependencyAway as error:
            logger.warning("the last steps of job {} are not sent: {}", self._tap.job_id, error)
        steps.sort(key=lambda moment: moment.sequence)
        return merge([moment for moment in moments if not moment.is_step], steps)


async def _until_gone(receive: Receive, tap: Tap) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    tap.end()


async def _write(send: Send, frames: list[bytes]) -> None:
    if frames:
        await send({"type": "http.response.body", "body": b"".join(frames), "more_body": True})


def _chunks(moments: Iterator[Moment]) -> Iterator[list[Moment]]:
    while chunk := list(islice(moments, CHUNK_EVENTS)):
        yield chunk
