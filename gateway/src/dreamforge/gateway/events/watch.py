"""The events of one job inside this process, for interfaces that answer with the outcome instead of with events."""

import json
from collections.abc import AsyncIterator
from typing import Any

from dreamforge.contracts.errors import JobNotFound
from dreamforge.gateway.events.hub import Hub, Subscription
from dreamforge.gateway.events.sse import Acceptance, SseEvent, merge
from dreamforge.gateway.events.stream import history
from dreamforge.gateway.http.cursor import EventCursor

JobEventData = dict[str, Any]  # Any: JSON; the fields of `data` in an event stream, and `event`, its short name


async def watch(hub: Hub, job_id: str) -> AsyncIterator[JobEventData]:
    """Every event of a job from its beginning, as the event stream sends it; ends after the terminal event.

    Errors: as `watch_events`.
    """
    async for event in watch_events(hub, job_id):
        if event is not None:
            yield data_of(event)


async def watch_events(hub: Hub, job_id: str) -> AsyncIterator[SseEvent | None]:
    """The same, as events; None where none came for as long as a heartbeat.

    Facts come once each and in order. Steps are those of a live stream: a reader that is slow misses some.
    It ends early where the process stops.
    Errors: JobNotFound, StreamsFull, DependencyAway.
    """
    sent = 0
    while True:
        subscription = await hub.open(job_id)
        try:
            facts, steps = await history(hub, subscription, EventCursor())
            if not facts:
                raise JobNotFound(job_id=job_id)
            events, acceptance = merge(facts, steps), Acceptance()
            while True:
                for event in acceptance.passed(events):
                    if event.is_step or event.sequence > sent:
                        sent = sent if event.is_step else event.sequence
                        yield event
                    if event.terminal:
                        return
                events = await _next(subscription)
                if not events and subscription.heartbeat_due:
                    yield None
                subscription.heartbeat_due = False
                if subscription.overflowed:
                    break  # what was discarded is read again
                if subscription.gone:
                    return
        finally:
            hub.close(subscription)


def data_of(event: SseEvent) -> JobEventData:
    """The content of an event as it is sent."""
    name, _, data = event.tail.partition(b"\ndata: ")
    found: JobEventData = json.loads(data)
    return found | {"event": name.removeprefix(b"event: ").decode()}


async def _next(subscription: Subscription) -> list[SseEvent]:
    await subscription.wake.wait()
    subscription.wake.clear()
    return subscription.take()
