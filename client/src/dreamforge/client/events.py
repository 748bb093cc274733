"""Events of jobs as values."""

import json
from dataclasses import dataclass
from typing import Any

from httpx_sse import ServerSentEvent

from dreamforge.contracts.events import Event
from dreamforge.contracts.log.envelope import BY_TYPE


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """One event of a stream."""

    id: str
    """Resumes the stream after it."""
    name: str
    """Short: `requested`, `assigned`, `started`, `step`, `artifact`, `succeeded`, ..."""
    job_id: str
    sequence: int
    event: Event | None
    """As a value of `dreamforge.contracts.events`; None for a type that only a newer release knows."""
    data: dict[str, Any]
    """Everything, as it was sent."""


def streamed_event_of(message: ServerSentEvent) -> StreamedEvent:
    """The event of a message that has data."""
    data = json.loads(message.data)
    return StreamedEvent(message.id, message.event, data["job_id"], data["sequence"], event_of(message), data)


def event_of(message: ServerSentEvent) -> Event | None:
    """The event in a message; None for a type that only a newer version knows."""
    fields = json.loads(message.data)
    kind = BY_TYPE.get(fields.pop("type", ""))
    own = {name: value for name, value in fields.items() if name not in ("job_id", "sequence")}
    return kind.model_validate(own, extra="ignore") if kind else None
