"""One reader of the log for all event streams of this process: each event goes to the subscriptions of its job."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from loguru import logger
from prometheus_client import Counter, Gauge

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.log.streams import JOBS, STEPS
from dreamforge.gateway.events.sse import SseEvent, sse_event_of
from dreamforge.gateway.http.errors import StreamsFull
from dreamforge.runtime.log.archived import NO_ARCHIVE, ArchiveReader
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower, last_sequence
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.service.tasks import TaskGroup
from dreamforge.runtime.service.telemetry import LAG

READY_SECONDS = 2.0
# A key that is revoked, or expires, ends its streams within a second, with an event that says why.
ACCESS_SECONDS = 0.4
# So many messages are distributed before the writers run: a burst must not look like a slow client.
SLICE_MESSAGES = 100
REQUESTED = f".{JobRequested.TOKEN}"
# The random end of a UUID of version 7; its beginning is the time.
LOG_CHARS = 8

CLIENTS = Gauge("forge_sse_clients", "Open event streams")
EVENTS = Counter("forge_sse_events_total", "Events handed to open event streams")
DROPPED = Counter("forge_sse_dropped_total", "Event streams closed because their client was too slow")


def nothing() -> None:
    """What is done where nothing is to be done."""


@dataclass(slots=True, eq=False)
class Subscription:
    """The events that one client has not taken yet. Bounded: a client that falls behind is dropped, and resumes by
    its last event id.

    While its history is still being read, falling behind is not the client's fault: what does not fit is discarded,
    and `missed` says that history must be read once more.
    """

    job_ids: tuple[str, ...]
    limit_bytes: int
    on_overflow: Callable[[], None] = nothing
    on_close: Callable[[], None] = nothing
    notified: bool = False
    """There is something to do, and no `wake` yet that says so."""
    reading_history: bool = True
    missed: bool = False
    heartbeat_due: bool = False
    gone: bool = False
    draining: bool = False
    refused: bytes = b""
    """The problem document that says why its client may no longer read, once that is so."""
    overflowed: bool = False
    access: Callable[[], Awaitable[bytes]] | None = None
    """Asked again and again: the problem document that says why the client may no longer read; empty while it may."""
    on_wake: Callable[[], None] | None = None
    """Called instead of `wake` being set."""
    client: tuple[str, str] | None = None
    """A tenant and an id by which it names itself: jobs whose workflow names them are added as they are requested."""
    _events: list[SseEvent] = field(default_factory=list)
    _bytes: int = 0
    _steps_end: int | None = None
    _wake: asyncio.Event | None = None

    @property
    def wake(self) -> asyncio.Event:
        """Set when there is something to do; made when a task waits for it, for most streams have none."""
        if self._wake is None:
            self._wake = asyncio.Event()
            if self.notified:
                self._wake.set()
        return self._wake

    def push(self, event: SseEvent) -> None:
        """Keep an event until it is taken; past the limit, discard everything and end."""
        if self.overflowed:
            return
        self._bytes += len(event.tail)
        if self._events and self._bytes > self.limit_bytes:  # one large event alone is not slowness
            self._overflow()
        else:
            self._events.append(event)
        self.notify()

    def notify(self) -> None:
        """Tell who writes to the client that there is something to do."""
        if self.on_wake is not None:
            self.on_wake()
        elif self._wake is not None:
            self._wake.set()
        else:
            self.notified = True

    def _overflow(self) -> None:
        self.take()
        if self.reading_history:
            self.missed = True
        else:
            self.overflowed = True
            DROPPED.inc()
            self.on_overflow()

    def take(self) -> list[SseEvent]:
        """All events since the last call."""
        taken, self._events, self._bytes = self._events, [], 0
        return taken

    def lose(self, steps_after: int) -> None:
        """STEPS has lost its steps past a sequence, and will give those numbers to others."""
        self._events = [each for each in self._events if not each.is_step or each.sequence <= steps_after]
        self._bytes = sum(len(each.tail) for each in self._events)
        self._steps_end = steps_after if self._steps_end is None else min(self._steps_end, steps_after)

    def lost(self) -> int | None:
        """Where STEPS has lost its end since the last call; call it before `take`, which returns what came since."""
        end, self._steps_end = self._steps_end, None
        return end

    def refuse(self, problem: bytes) -> None:
        """Its client may read no more; wake its writer for the last time."""
        self.refused = problem
        self.notify()

    def end(self, *, draining: bool = False) -> None:
        """Wake the writer of the client for the last time."""
        self.gone, self.draining = True, draining
        self.notify()


class Flushed(Protocol):
    """A stream that is written when it is told to."""

    def flush(self) -> None:
        """Write what there is."""
        ...

    def close(self) -> None:
        """Write no more."""
        ...


class Hub:
    """Follows JOBS and STEPS from now on. A subscription gets everything that is stored after it was opened."""

    def __init__(
        self,
        bus: Bus,
        *,
        limit_streams: int,
        limit_bytes: int,
        heartbeat_seconds: float,
        archive: ArchiveReader = NO_ARCHIVE,
    ) -> None:
        self.bus = bus
        self.archive = archive
        self._limit_streams = limit_streams
        self._limit_bytes = limit_bytes
        self._heartbeat_seconds = heartbeat_seconds
        self.sequences = {JOBS.name: 0, STEPS.name: 0}
        """The sequence up to which each log was distributed: a subscription opened now gets everything after it."""
        self.log = ""
        """The end of the identity of JOBS: part of event ids, so that those of another log are not taken for ours."""
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._clients: dict[tuple[str, str], list[Subscription]] = {}
        self._open: set[Subscription] = set()
        self._to_flush: dict[Flushed, None] = {}
        self._started = asyncio.Event()
        self._draining = False

    async def run(self) -> None:
        """Follow until cancelled."""
        self.log = (await stream_place(self.bus, JOBS.name)).log_id[-LOG_CHARS:]
        self.sequences = {stream: await last_sequence(self.bus, stream) for stream in self.sequences}
        self._started.set()  # everything stored from here on is delivered, whenever the consumers are made
        async with TaskGroup() as tasks:
            for stream, sequence in self.sequences.items():
                tasks.create_task(
                    self._follow(Follower(self.bus, stream, after_sequence=sequence)), name=f"sse-{stream}"
                )
            tasks.create_task(self._heartbeats(), name="sse-heartbeat")
            tasks.create_task(self._check_access(), name="sse-access")

    async def open(self, *job_ids: str, on_close: Callable[[], None] = nothing) -> Subscription:
        """Subscribe to one job, or to several; `on_close` is called once it has ended or was refused.

        Errors: StreamsFull, DependencyAway while the hub has no position in the log yet.
        """
        try:
            return await self._open_for(job_ids, on_close)
        except BaseException:
            on_close()
            raise

    async def open_client(self, tenant: str, client_id: str, on_close: Callable[[], None] = nothing) -> Subscription:
        """As `open`, to the jobs that a client of a tenant requests from now on."""
        subscription = await self.open(on_close=on_close)
        subscription.client = (tenant, client_id)
        subscription.reading_history = False
        self._clients.setdefault(subscription.client, []).append(subscription)
        return subscription

    def follow(self, subscription: Subscription, job_id: str) -> None:
        """Subscribe to one more job."""
        if job_id not in subscription.job_ids:
            subscription.job_ids = (*subscription.job_ids, job_id)
            self._subscriptions.setdefault(job_id, []).append(subscription)

    def leave(self, subscription: Subscription, job_id: str) -> None:
        """Hear no more of a job."""
        if job_id in subscription.job_ids:
            subscription.job_ids = tuple(each for each in subscription.job_ids if each != job_id)
            self._remove(subscription, job_id)

    async def _open_for(self, job_ids: tuple[str, ...], on_close: Callable[[], None]) -> Subscription:
        try:
            await asyncio.wait_for(self._started.wait(), READY_SECONDS)
        except TimeoutError:
            raise DependencyAway(dependency="nats", reason="the event streams are not followed yet") from None
        if len(self._open) >= self._limit_streams:
            raise StreamsFull(maximum=self._limit_streams)
        subscription = Subscription(job_ids, self._limit_bytes, on_close=on_close)
        self._open.add(subscription)
        for job_id in job_ids:
            self._subscriptions.setdefault(job_id, []).append(subscription)
        CLIENTS.inc()
        if self._draining:
            subscription.end(draining=True)
        return subscription

    def is_open(self, subscription: Subscription) -> bool:
        """Whether it was not closed yet."""
        return subscription in self._open

    def flush_soon(self, stream: "Flushed") -> None:
        """Write to a client once what is distributed now has been: many events in one write."""
        if not self._to_flush:
            asyncio.get_running_loop().call_soon(self._flush)
        self._to_flush[stream] = None

    def _flush(self) -> None:
        streams, self._to_flush = self._to_flush, {}
        for stream in streams:
            try:
                stream.flush()
            except Exception as error:  # a bug met by one client is none of the others'
                logger.opt(exception=error).error("a bug: an event stream cannot be written")
                stream.close()

    def close(self, subscription: Subscription) -> None:
        """End a subscription."""
        self._open.remove(subscription)
        for job_id in subscription.job_ids:
            self._remove(subscription, job_id)
        if subscription.client is not None:
            self._clients[subscription.client].remove(subscription)
            if not self._clients[subscription.client]:
                del self._clients[subscription.client]
        CLIENTS.dec()
        subscription.on_close()

    def _remove(self, subscription: Subscription, job_id: str) -> None:
        subscriptions = self._subscriptions[job_id]
        subscriptions.remove(subscription)
        if not subscriptions:
            del self._subscriptions[job_id]

    def drain(self) -> None:
        """The process is about to stop: tell every client to reconnect (another gateway has every event)."""
        self._draining = True
        for subscription in tuple(self._open):
            subscription.end(draining=True)

    @property
    def ready(self) -> bool:
        """True once streams can be served."""
        return self._started.is_set()

    async def _follow(self, follower: Follower) -> None:
        stream = follower.stream
        async for batch in follower.batches():
            self._begin(stream, batch.messages[0].sequence - 1 if batch.messages else follower.after_sequence)
            for first in range(0, len(batch.messages), SLICE_MESSAGES):
                messages = batch.messages[first : first + SLICE_MESSAGES]
                self._distribute(messages)
                self.sequences[stream] = messages[-1].sequence
                await asyncio.sleep(0)
            LAG.labels("event-streams", stream).set(batch.pending)

    def _begin(self, stream: str, sequence: int) -> None:
        """The next message comes after `sequence`. Only a log that lost its end goes back: STEPS may, JOBS does not."""
        if stream == STEPS.name and sequence < self.sequences[stream]:
            for subscription in self._open:
                subscription.lose(sequence)
        self.sequences[stream] = sequence

    def _distribute(self, messages: list[LogMessage]) -> None:
        handed = 0
        for message in messages:
            if self._clients and message.subject.endswith(REQUESTED):
                self._add_to_clients(message)
            subscriptions = self._subscriptions.get(message.subject.split(".", 3)[2])
            if subscriptions and (event := sse_event_of(message)) is not None:
                handed += len(subscriptions)
                for subscription in subscriptions:
                    subscription.push(event)
        EVENTS.inc(handed)

    def _add_to_clients(self, message: LogMessage) -> None:
        """A job was requested: its client hears of it from this event on."""
        event = sse_event_of(message)
        if event is None or not isinstance(event.event, JobRequested) or event.event.workflow is None:
            return
        client = (event.event.tenant, event.event.workflow.client_id or "")
        for subscription in self._clients.get(client, ()):
            self.follow(subscription, event.job_id)

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            for subscription in tuple(self._open):
                subscription.heartbeat_due = True
                subscription.notify()

    async def _check_access(self) -> None:
        while True:
            await asyncio.sleep(ACCESS_SECONDS)
            for subscription in tuple(self._open):
                asked = subscription.access if not subscription.refused else None
                if asked is not None and (problem := await asked()):
                    subscription.refuse(problem)
