"""The live part of an event stream: new events to one client, written when they come, without a task that waits."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from loguru import logger
from starlette.types import Receive, Scope, Send

from dreamforge.contracts.errors import DependencyAway
from dreamforge.gateway.events.hub import Hub, Subscription
from dreamforge.gateway.events.sse import HEARTBEAT, Acceptance, SseEvent, StreamCursor, merge
from dreamforge.gateway.http.authentication import REFUSAL_NOW
from dreamforge.gateway.http.cursor import EventCursor
from dreamforge.gateway.http.problems import problem_of
from dreamforge.gateway.http.server_protocol import DetachedResponse
from dreamforge.runtime import ids

# Clients of a gateway that stops reconnect within this time, not all at once.
RETRY_MILLISECONDS = 2_000
REFUSED = b"refused"

# The steps of a job after a sequence. Errors: DependencyAway.
ReadSteps = Callable[[int, str], Awaitable[list[SseEvent]]]


def access_of(scope: Scope) -> Callable[[], Awaitable[bytes]] | None:
    """Asks whether the credential of a request is still good: see `Subscription.access`. None where it has none."""
    refusal_now, path = scope.get(REFUSAL_NOW), scope["path"]
    if refusal_now is None:
        return None

    async def ask() -> bytes:
        error = await refusal_now()
        return b"" if error is None else problem_of(error).body(instance=path)

    return ask


def refused_frame(cursor: EventCursor, problem: bytes) -> bytes:
    """The last of a client that may read no more, with the problem document that says why."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(cursor).encode(), REFUSED, problem)


def retry_frame() -> bytes:
    """The last of a gateway that stops: when the client may ask another one."""
    return b"retry: %d\n\n" % ids.jitter(RETRY_MILLISECONDS)


class LiveStream:
    """What one client is still to be sent. `pull` gives it; `detach` or `run` writes it until the end."""

    __slots__ = (
        "_acceptance",
        "_ending",
        "_hub",
        "_last",
        "_position",
        "_read_steps",
        "_response",
        "over",
        "subscription",
    )

    def __init__(self, hub: Hub, subscription: Subscription, position: StreamCursor, read_steps: ReadSteps) -> None:
        self.subscription = subscription
        self.over = False
        """Nothing is sent any more."""
        self._hub, self._position, self._read_steps = hub, position, read_steps
        self._acceptance = Acceptance()
        self._response: DetachedResponse | None = None
        self._ending: asyncio.Task[None] | None = None
        self._last: list[SseEvent] = []

    def frames(self, events: Iterable[SseEvent]) -> list[bytes]:
        """Those of the events that are not refused, and that the client has not been sent."""
        return self._position.frames(self._acceptance.passed(events))

    def detach(self, detach: Callable[..., DetachedResponse | None]) -> None:
        """Go on without the task of the request: from now on the hub's events are written as they come."""
        self._response = detach(self._lost, self.flush)
        if self._response is None:
            self.close()
            return
        self.subscription.on_wake = self._wake
        self._wake()

    def _wake(self) -> None:
        self._hub.flush_soon(self)

    def _lost(self) -> None:
        self.subscription.end()
        self.close()

    def flush(self) -> None:
        """Write what there is, unless the client is behind: then what comes waits within its limit."""
        response, subscription = self._response, self.subscription
        if self.over or response is None:
            return
        if response.full and not (subscription.refused or subscription.draining):
            return
        response.write(self.pull())
        if self.over:
            response.finish()
            self.close()

    async def run(self, receive: Receive, send: Send) -> None:
        """The same in the task of the request, for any ASGI server."""
        watcher = asyncio.create_task(until_gone(receive, self.subscription), name="sse-disconnect")
        try:
            while not (self.over or self.subscription.overflowed or self.subscription.gone):
                if body := self.pull():
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                if not self.over:
                    await self.subscription.wake.wait()
                    self.subscription.wake.clear()
            if self.over or self.subscription.draining:
                await send({"type": "http.response.body", "body": self.pull(), "more_body": False})
        finally:
            watcher.cancel()
            self.close()

    def pull(self) -> bytes:
        """What is to be written now; `over` is set once that is the last."""
        subscription, position = self.subscription, self._position
        if self.over or subscription.overflowed or self._ending is not None:
            return b""
        if subscription.refused:
            self.over = True
            return refused_frame(position.cursor, subscription.refused)
        if (steps_end := subscription.lost()) is not None:
            position.lose(steps_end)
        events = self._taken()
        if self._ending is not None:
            return b""
        frames = self.frames(events)
        if subscription.heartbeat_due:
            subscription.heartbeat_due = False
            frames.append(HEARTBEAT)
        if subscription.draining and not position.ended:
            frames.append(retry_frame())
        self.over = position.ended or subscription.draining
        return b"".join(frames)

    def _taken(self) -> list[SseEvent]:
        """New events. The two logs are followed independently, so the end of a job may overtake its last steps: these
        are read first, where it is the only job."""
        last, self._last = self._last, []
        events = last or self.subscription.take()
        if not last and len(self.subscription.job_ids) == 1 and any(event.terminal for event in events):
            self._ending = asyncio.create_task(self._read_last(events), name="sse-last-steps")
        return events

    async def _read_last(self, events: list[SseEvent]) -> None:
        job_id = self.subscription.job_ids[0]
        steps = [event for event in events if event.is_step]
        try:
            steps += await self._read_steps(self._position.cursor.steps, job_id)
        except DependencyAway as error:
            logger.warning("the last steps of job {} are not sent: {}", job_id, error)
        finally:  # whatever became of the steps, the end of the job is sent: a client waits for it
            steps.sort(key=lambda event: event.sequence)
            self._last = merge([event for event in events if not event.is_step], steps)
            self._ending = None
            self.subscription.notify()

    def close(self) -> None:
        """Give up the subscription, once."""
        self.over = True
        if self._ending is not None:
            self._ending.cancel()
        if not self._hub.is_open(self.subscription):
            return
        self._hub.close(self.subscription)
        if self.subscription.overflowed:
            where = self.subscription.job_ids[0], self._position.cursor
            logger.info("dropped a slow client of job {}; it can resume after {}", *where)


async def until_gone(receive: Receive, subscription: Subscription) -> None:
    """End a subscription when its client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    subscription.end()
