"""`GET /v1/events`: the events of all jobs of a tenant on one connection, as the read tables have them, and live steps.

The tables hold the accepted events of every job in the order of the log, with the tenant of each, so a client goes on
after any event, however long it was away. Steps are not kept there: those of the jobs that run come from the hub.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

from loguru import logger
from sqlalchemy import RowMapping
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import (
    ERASURE_EVENTS,
    JOB_EVENTS,
    TERMINAL_EVENTS,
    JobArchived,
    JobAssigned,
    JobEvent,
    StepProgressed,
)
from dreamforge.contracts.jobs.refusal import step_refusal
from dreamforge.contracts.log.envelope import BY_TYPE
from dreamforge.gateway.events.hub import Hub, Subscription, nothing
from dreamforge.gateway.events.live import access_of, refused_frame, retry_frame, until_gone
from dreamforge.gateway.events.sse import HEARTBEAT, SseEvent, sse_event
from dreamforge.gateway.events.stream import HEADERS, cursor_in_log
from dreamforge.gateway.http.cursor import EventCursor
from dreamforge.gateway.read import queries
from dreamforge.gateway.read.checkpoints import Checkpoints
from dreamforge.gateway.read.database import Database

# Events of one read of the tables.
PAGE_EVENTS = 500
# Between two reads of the tables for one client: what a busy fleet does meanwhile comes in one page.
READ_SECONDS = 0.05
# After a read that failed.
AWAY_SECONDS = 1.0
# With these a job begins and ends to have steps.
FOLLOWED = frozenset((JobAssigned.TYPE, *(event.TYPE for event in TERMINAL_EVENTS)))

# Of the store of a job, not of its course.
UNTOLD: tuple[type[JobEvent], ...] = (*ERASURE_EVENTS, JobArchived)


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
    checkpoints: Checkpoints,
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
    return TenantStream(database, checkpoints, wanted, position, running)


class TenantStream(Response):
    """Owns its subscription: closed when the response ends. A client that is slow delays its own reads only."""

    media_type = "text/event-stream"

    def __init__(
        self,
        database: Database,
        checkpoints: Checkpoints,
        wanted: TenantEvents,
        position: EventCursor,
        running: RunningJobs,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._database, self._checkpoints = database, checkpoints
        self._wanted, self._position, self._running = wanted, position, running
        self._subscription = running.subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write until the client or its access is gone, or the process stops."""
        subscription = self._subscription
        subscription.access = access_of(scope)
        watcher = asyncio.create_task(until_gone(receive, subscription), name="sse-disconnect")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            with self._checkpoints.told(subscription.notify):
                async for body in self._bodies():
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": self._last(), "more_body": False})
        finally:
            watcher.cancel()
            self._running.hub.close(subscription)

    async def _bodies(self) -> AsyncIterator[bytes]:
        subscription = self._subscription
        yield f"id: {self._position}\n\n".encode()  # where it begins, so that it can go on before its first event
        while not (subscription.gone or subscription.refused):
            subscription.wake.clear()
            frames, more = await self._facts()
            frames += self._steps()
            if subscription.heartbeat_due:
                subscription.heartbeat_due = False
                frames.append(HEARTBEAT)
            if frames:
                yield b"".join(frames)
            if not more:
                await asyncio.sleep(READ_SECONDS)
                await subscription.wake.wait()

    async def _facts(self) -> tuple[list[bytes], bool]:
        """The next page of what the tables have, and whether there may be another; nothing yet where they are away."""
        if self._checkpoints.reached <= self._position.facts:
            return [], False
        try:
            statement = queries.events_after(self._wanted.tenant, self._position.facts, self._wanted.types, PAGE_EVENTS)
            rows = await self._database.rows(statement)
        except DependencyAway as error:
            logger.warning("the events of tenant {} wait: {}", self._wanted.tenant, error)
            asyncio.get_running_loop().call_later(AWAY_SECONDS, self._subscription.notify)
            return [], False
        frames = [frame for row in rows if row["sequence"] for frame in self._fact(row)]
        if len(rows) == PAGE_EVENTS:
            return frames, True
        # As the same read has it: after a failover the tables may be behind what was notified before.
        looked, reached = (rows[0]["looked"], rows[0]["reached"]) if rows else (0, 0)
        self._position = replace(self._position, facts=max(looked, self._position.facts))
        return frames, looked < reached

    def _fact(self, row: RowMapping) -> list[bytes]:
        self._position = replace(self._position, facts=row["sequence"])
        recorded = BY_TYPE[row["type"]].model_validate(row["payload"])
        if not isinstance(recorded, JobEvent) or isinstance(recorded, UNTOLD):
            return []
        event = sse_event(row["job_id"], row["sequence"], recorded)
        if self._wanted.steps:
            self._running.observe(event.job_id, recorded)
        is_wanted = not self._wanted.names or recorded.TOKEN in self._wanted.names
        return [self._frame(event)] if is_wanted else []

    def _steps(self) -> list[bytes]:
        if (end := self._subscription.lost()) is not None:
            self._position = replace(self._position, steps=min(end, self._position.steps))
        frames = []
        for event in self._subscription.take():
            if event.is_step and self._running.accepts(event):
                self._position = replace(self._position, steps=event.sequence)
                frames.append(self._frame(event))
        return frames

    def _frame(self, event: SseEvent) -> bytes:
        return f"id: {self._position}\n".encode() + event.tail

    def _last(self) -> bytes:
        refused = self._subscription.refused
        return refused_frame(self._position, refused) if refused else retry_frame()
