"""The identity of a stream on the server: who made it and which log it is, in its metadata, written at its creation."""

from datetime import datetime
from typing import Any

from dreamforge.contracts.errors import DependencyAway, NotOurs
from dreamforge.contracts.log.identity import LOG_ID_KEY, OWNER, OWNER_KEY, EventPlace, StreamPlace
from dreamforge.runtime import ids
from dreamforge.runtime.log import leader_get
from dreamforge.runtime.log.bus import ApiError, Bus

# Set by the server itself, and different on each version of it.
SERVERS_OWN = "_nats."


def new_metadata() -> dict[str, str]:
    """The metadata of a stream that is made now."""
    return {OWNER_KEY: OWNER, LOG_ID_KEY: ids.new_id()}


def kept_metadata(info: dict[str, Any]) -> dict[str, str]:  # Any: JSON
    """The metadata of a stream of ours that exists; one without identity gets the same one from every process."""
    metadata = {key: value for key, value in _metadata(info).items() if not key.startswith(SERVERS_OWN)}
    adopted = ids.adopted_log_id(info["config"]["name"], info["created"])
    return {OWNER_KEY: OWNER, LOG_ID_KEY: adopted} | metadata


def is_marked(info: dict[str, Any]) -> bool:  # Any: JSON
    """Whether a stream says that it is ours."""
    return _metadata(info).get(OWNER_KEY) == OWNER


def log_id_of(info: dict[str, Any]) -> str:  # Any: JSON
    """The identity of a stream; "" if it has none."""
    return _metadata(info).get(LOG_ID_KEY, "")


async def stream_place(bus: Bus, stream: str, event_at: int | None = None) -> StreamPlace:
    """A stream as its leader has it, with the event at a sequence. Errors: DependencyAway, NotOurs."""
    info = await stream_info(bus, stream)
    log_id = log_id_of(info)
    if not log_id:
        raise NotOurs(
            what=f"stream {stream} on NATS",
            found="it has no identity of ours",
            remedy="start a service first, which makes or marks it",
        )
    found = await leader_get.one(bus, stream, event_at) if event_at else None
    event = EventPlace(found.sequence, found.headers.get("ce-id", "")) if found else None
    return StreamPlace(log_id, int(info["state"]["last_seq"]), event)


async def made_at(bus: Bus, stream: str) -> datetime:
    """When a stream was made, by the server's clock. Errors: DependencyAway."""
    return datetime.fromisoformat((await stream_info(bus, stream))["created"])


async def stream_info(bus: Bus, stream: str) -> dict[str, Any]:  # Any: JSON
    """What the server says about a stream. Errors: DependencyAway, also where there is no such stream."""
    try:
        return await bus.request(f"$JS.API.STREAM.INFO.{stream}", None)
    except ApiError as error:
        raise DependencyAway(dependency="nats", reason=f"stream {stream}: {error}") from error


def _metadata(info: dict[str, Any]) -> dict[str, str]:  # Any: JSON
    found: dict[str, str] = info["config"].get("metadata") or {}
    return found
