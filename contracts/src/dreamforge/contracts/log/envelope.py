"""CloudEvents 1.0 in binary mode: attributes in `ce-*` headers, the payload plain JSON.

So `nats stream view` shows readable events, and any CloudEvents consumer can read them.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import Event
from dreamforge.contracts.installation_events import EVENTS
from dreamforge.contracts.log.actor import Actor
from dreamforge.contracts.log.subjects import entity_of, subject_of
from dreamforge.contracts.validation import describe_validation_error, dotted

Upcaster = Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]  # Any: JSON of versions past

BY_TYPE: dict[str, type[Event]] = {event.TYPE: event for event in EVENTS}
# Old type -> function giving (newer type, newer payload). Entries are only ever added.
UPCASTERS: dict[str, Upcaster] = {}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message ready to be published."""

    subject: str
    headers: dict[str, str]
    data: bytes


class Recorded(NamedTuple):
    """An event as the log has it. `sequence` is its place in its stream."""

    event: Event
    entity_id: str
    sequence: int
    event_id: str
    source: str = ""
    traceparent: str = ""
    actor: Actor | None = None
    """Who caused it, where that is known."""

    @property
    def at(self) -> datetime:
        """When it was decided."""
        return self.event.at


def seal(
    event: Event, *, entity_id: str, event_id: str, source: str, traceparent: str = "", actor: Actor | None = None
) -> Envelope:
    """Wrap an event for the bus. Pure: ids come from the shell."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-type": event.TYPE,
        "ce-source": source,
        "ce-time": event.at.isoformat(),
        "ce-subject": entity_id,
        "content-type": "application/json",
    }
    if traceparent:
        headers["traceparent"] = traceparent
    if actor is not None:
        headers |= actor.headers()
    return Envelope(subject_of(event, entity_id), headers, event.model_dump_json().encode())


# Only nats-server sets it, on answers. Who asks names the subject of the answer, with no permission for it: a
# stored message that has this header was published by the server on behalf of another, and is no fact.
COPIED_FROM = "Nats-Stream"


def unseal(subject: str, headers: Mapping[str, str] | None, data: bytes, *, sequence: int) -> Recorded:
    """Read a message back, upcasting versions past.

    Errors: MalformedEvent(subject, reason) for anything that no version of ours wrote there, including a valid
    event on a subject that is not its own.
    """
    if headers and COPIED_FROM in headers:
        raise MalformedEvent(subject=subject, reason="the server copied it here, as the answer to a request")
    found = headers if headers and "ce-type" in headers else _lower(headers or {})
    kind = found.get("ce-type")
    if kind is None:
        raise MalformedEvent(subject=subject, reason="header ce-type is missing")
    event = _parse(subject, kind, data)
    entity_id = entity_of(subject)
    if subject_of(event, entity_id) != subject:
        raise MalformedEvent(subject=subject, reason=f"{kind} belongs on {subject_of(event, entity_id)}")
    return Recorded(
        event,
        entity_id,
        sequence,
        found.get("ce-id", ""),
        found.get("ce-source", ""),
        found.get("traceparent", ""),
        Actor.of(found),
    )


def unseal_or_none(subject: str, headers: Mapping[str, str] | None, data: bytes, *, sequence: int) -> Recorded | None:
    """The same for readers that pass over what they cannot read, because the projector parks it. None: malformed."""
    try:
        return unseal(subject, headers, data, sequence=sequence)
    except MalformedEvent:
        return None


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Header names as we write them: others may have changed their case on the way."""
    return {name.lower(): value for name, value in headers.items()}


def _parse(subject: str, kind: str, data: bytes) -> Event:
    try:
        if kind in UPCASTERS:
            return _upcast(kind, data)
        return BY_TYPE[kind].model_validate_json(data)
    except KeyError:
        raise MalformedEvent(subject=subject, reason=f"unknown type {kind[:120]!r}") from None
    except ValidationError as error:
        where, message = describe_validation_error(error, maximum=1)[0]
        raise MalformedEvent(subject=subject, reason=f"{kind}: {dotted(where) or 'payload'}: {message}") from None


def _upcast(kind: str, data: bytes) -> Event:
    payload = json.loads(data)
    while kind in UPCASTERS:
        kind, payload = UPCASTERS[kind](payload)
    return BY_TYPE[kind].model_validate(payload)
