"""The events of a job as the API v2 streams them. Each frame that ends what an event says has its id, and resumes."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from dreamforge.gateway.events.sse import HEARTBEAT, SseEvent
from dreamforge.gateway.events.watch import data_of, watch_events
from dreamforge.gateway.facades.comfyui.v2.jobs import Json, outputs, progress
from dreamforge.gateway.http.authentication import REFUSAL_NOW
from dreamforge.gateway.http.cursor import EventCursor
from dreamforge.gateway.routes.common import dependencies_of

_STATUSES = {
    "requested": "queued",
    "started": "running",
    "cancel-requested": "canceling",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "canceled",
}


@dataclass(slots=True)
class JobFrames:
    """Folds the events of one job into frames; `base` is the address of the gateway."""

    base: str
    workflow: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON

    def take(self, event: Mapping[str, Any]) -> list[tuple[str, Json]]:
        """What an event says: names and data. Any: JSON."""
        name = event["event"]
        if name == "requested":
            self.workflow = event["workflow"]
        if name == "artifact":
            artifact_id = f"{event['job_id']}-{event['attempt']}-{event['index']}"
            stored = {**event, "artifact_id": artifact_id, "stored_at": event["at"]}
            return [("output", each) for each in outputs(self.workflow, event["job_id"], stored, self.base)]
        if name == "step" and not event.get("loading"):
            return self._step(event)
        return [("status", {"status": _STATUSES[name]})] if name in _STATUSES else []

    def _step(self, event: Mapping[str, Any]) -> list[tuple[str, Json]]:
        found = progress(self.workflow, event)
        frames = [("progress", found)]
        if event.get("preview"):
            data = event["preview"].partition(",")[2]
            shown = {"node_id": found["current_node"], "content_type": "image/jpeg", "data_base64": data}
            frames.append(("preview", shown))
        return frames


async def frames(request: Request, job_id: str, cursor: EventCursor, base: str) -> AsyncIterator[bytes]:
    """The stream after a cursor: history, then live, until the end of the job, or of the sender's access.

    Errors: as `watch_events`.
    """
    hub = dependencies_of(request).log.hub
    seen, job = cursor.in_log(hub.log), JobFrames(base)
    at = EventCursor(0, 0, hub.log)
    refusal_now = request.scope.get(REFUSAL_NOW)
    async for event in watch_events(hub, job_id):
        if refusal_now is not None and await refusal_now() is not None:
            return
        if event is None:
            yield HEARTBEAT
            continue
        at = _past(at, event)
        said = job.take(data_of(event))
        if said and event.sequence > (seen.steps if event.is_step else seen.facts):
            yield b"".join(_encoded(said, at))


def _past(at: EventCursor, event: SseEvent) -> EventCursor:
    if event.is_step:
        return EventCursor(at.facts, max(at.steps, event.sequence), at.log)
    return EventCursor(max(at.facts, event.sequence), at.steps, at.log)


def _encoded(said: list[tuple[str, Json]], at: EventCursor) -> list[bytes]:
    last = len(said) - 1
    return [
        (f"id: {at}\n" if index == last else "").encode() + f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
        for index, (name, data) in enumerate(said)
    ]
