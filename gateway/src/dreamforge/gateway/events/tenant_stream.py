"""`GET /v1/events`: the events of all jobs of a tenant on one connection, as the read tables have them, and live steps.

The tables hold the accepted events of every job in the order of the log, with the tenant of each, so a client goes on
after any event, however long it was away. It reads what it has missed for itself; once it has caught up, one reader of
the process tells all clients what is new (`tenant_feed`). Steps are not kept in the tables: those of the jobs that run
come from the hub.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace

from loguru import logger
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import JOB_EVENTS, TERMINAL_EVENTS, JobAssigned, JobEvent, StepProgressed
from dreamforge.contracts.jobs.refusal import step_refusal
from dreamforge.gateway.events.hub import Hub, Subscription, nothing
from dreamforge.gateway.events.live import access_of, refused_frame, retry_frame, until_gone
from dreamforge.gateway.events.sse import HEARTBEAT, SseEvent
from dreamforge.gateway.events.stream import HEADERS, cursor_in_log
from dreamforge.gateway.events.tenant_feed import AWAY_SECONDS, READ_SECONDS, FeedMember, TenantFeed
from dreamforge.gateway.events.tenant_page import read_page
from dreamforge.gateway.http.cursor import EventCursor
from dreamforge.gateway.read import queries
from dreamforge.gateway.read.database import Database

# With these a job begins and ends to have steps.
FOLLOWED = frozenset((JobAssigned.TYPE, *(event.TYPE for event in TERMINAL_EVENTS)))


@dataclass(frozen=True, slots=True)
class TenantEvents:
    """Which events a client wants. `names`: short names, as the `event` of a stream has them; none: all."""

    tenant: str
    names: frozenset[str] = frozenset()

    @property
    def types(self) -> frozenset[str]:
        """The events to read of the tables; none: all. Without assignments and ends no steps can be followed."""
        if not self.names:
            return frozenset()
        wanted = {event.TYPE for event in JOB_EVENTS if event.TOKEN in self.names}
        return frozenset(wanted | FOLLOWED if self.steps else wanted)

    @property
    def steps(self) -> bool:
        """Whether steps are wanted."""
        return not self.names or StepProgressed.TOKEN in self.names


@dataclass(slots=True)
class RunningJobs:
    """The jobs whose steps are followed: those that a runner has, by the attempt that it was given."""

    hub: Hub
    subscription: Subscription
    _attempts: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, job_id: str, attempt: int, runner_id: str) -> None:
        """Follow a job from now on."""
        self._attempts[job_id] = attempt, runner_id
        self.hub.follow(self.subscription, job_id)

    def observe(self, job_id: str, event: JobEvent) -> None:
        """Begin with an assignment, and leave a job that is over."""
        if isinstance(event, JobAssigned):
            self.add(job_id, event.attempt, event.runner_id)
        elif isinstance(event, TERMINAL_EVENTS) and job_id in self._attempts:
            del self._attempts[job_id]
            self.hub.leave(self.subscription, job_id)

    def accepts(self, event: SseEvent) -> bool:
        """Whether it is a step of an attempt that runs, by the runner that has it."""
        attempt, runner_id = self._attempts.get(event.job_id, (0, ""))
        step = event.event
        return isinstance(step, StepProgressed) and step.attempt == attempt and step_refusal(runner_id, step) is None


async def open_tenant_stream(
    hub: Hub,
    database: Database,
    feed: TenantFeed,
    wanted: TenantEvents,
    cursor: EventCursor,
    on_close: Callable[[], None] = nothing,
) -> Response:
    """The stream of a tenant after a cursor, or from now on where there is none, or it is one of another log.

    `on_close` is called once, when it has ended or was not opened. Errors: StreamsFull, DependencyAway.
    """
    subscription = await hub.open(on_close=on_close)
    try:
        cursor = await cursor_in_log(hub, cursor)
        running = RunningJobs(hub, subscription)
        reached = await database.checkpoint()
        if wanted.steps:
            for row in await database.rows(queries.placed_jobs(wanted.tenant)):
                running.add(row["job_id"], row["attempt"], row["runner_id"])
    except BaseException:
        hub.close(subscription)
        raise
    position = cursor if cursor.facts else replace(cursor, facts=reached)
    return TenantStream(database, feed, wanted, position, running)


class TenantStream(Response):
    """Owns its subscription: closed when the response ends. A client that is slow delays its own reads only: of what
    does not fit in its subscription, it reads the facts for itself, and the steps are left out.
    """

    media_type = "text/event-stream"

    def __init__(
        self, database: Database, feed: TenantFeed, wanted: TenantEvents, position: EventCursor, running: RunningJobs
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._database, self._feed = database, feed
        self._member: FeedMember | None = None
        """As which it is told what is new; None while it reads for itself."""
        self._wanted, self._position, self._running = wanted, position, running
        self._subscription = running.subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the client or its access is gone, or the process stops."""
        subscription = self._subscription
        subscription.access = access_of(scope)
        watcher = asyncio.create_task(until_gone(receive, subscription), name="sse-disconnect")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for body in self._bodies():
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": self._last(), "more_body": False})
        finally:
            watcher.cancel()
            self._leave()
            self._running.hub.close(subscription)

    async def _bodies(self) -> AsyncIterator[bytes]:
        subscription = self._subscription
        yield f"id: {self._position}\n\n".encode()  # where it begins, so that it can go on before its first event
        while not (subscription.gone or subscription.refused):
            subscription.wake.clear()
            frames, more = await self._next()
            if subscription.heartbeat_due:
                subscription.heartbeat_due = False
                frames.append(HEARTBEAT)
            if frames:
                yield b"".join(frames)
            if not more:
                await asyncio.sleep(READ_SECONDS)
                await subscription.wake.wait()

    async def _next(self) -> tuple[list[bytes], bool]:
        """What is to be written now, and whether there may be more without being told."""
        if (end := self._subscription.lost()) is not None:
            self._position = replace(self._position, steps=min(end, self._position.steps))
        if self._member is None:
            return await self._catch_up()
        if (events := self._member.take(self._position.facts)) is None:
            if self._subscription.missed:
                self._leave()
                return await self._catch_up()
            return await self._read_up_to(self._member.since)
        frames = self._frames(events)
        self._position = replace(self._position, facts=max(self._member.reached, self._position.facts))
        return frames, False

    async def _catch_up(self) -> tuple[list[bytes], bool]:
        """A page that it reads for itself; after the last one it is told what is new."""
        frames, more = await self._read()
        frames += self._frames(event for event in self._subscription.take() if event.is_step)
        if more:
            return frames, True
        wanted, position = self._wanted, self._position.facts
        self._member = self._feed.join(wanted.tenant, wanted.types, self._subscription, position)
        return frames, True

    async def _read_up_to(self, since: int) -> tuple[list[bytes], bool]:
        """A page on the way to where it is told what is new; the tables may not have that at the moment."""
        frames, more = await self._read()
        if more or self._position.facts >= since:
            return frames, True
        asyncio.get_running_loop().call_later(AWAY_SECONDS, self._subscription.notify)
        return frames, False

    async def _read(self) -> tuple[list[bytes], bool]:
        try:
            page = await read_page(self._database, (self._wanted.tenant,), self._position.facts, self._wanted.types)
        except DependencyAway as error:
            logger.warning("the events of tenant {} wait: {}", self._wanted.tenant, error)
            return [], False
        frames = self._frames(event for _, event in page.events)
        self._position = replace(self._position, facts=page.position)
        return frames, page.more

    def _leave(self) -> None:
        """From now on it reads for itself."""
        if self._member is not None:
            self._feed.leave(self._member)
        self._member, self._subscription.missed = None, False

    def _frames(self, events: Iterable[SseEvent]) -> list[bytes]:
        return [frame for event in events if (frame := self._frame(event))]

    def _frame(self, event: SseEvent) -> bytes:
        """Empty for a step of an attempt that does not run, and for an event that is not wanted."""
        if event.is_step:
            if not self._running.accepts(event):
                return b""
        elif self._wanted.steps:
            self._running.observe(event.job_id, event.event)
        told = event.frame_after(self._position)
        self._position = told.after
        return told.frame if not self._wanted.names or event.event.TOKEN in self._wanted.names else b""

    def _last(self) -> bytes:
        refused = self._subscription.refused
        return refused_frame(self._position, refused) if refused else retry_frame()
