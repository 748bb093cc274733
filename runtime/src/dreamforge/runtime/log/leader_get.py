"""Reads that a stream's leader answers: it has every acknowledged message.

A direct get is answered by any replica, from what it has applied so far: on three idle servers, one in eight of the
reads right after a write did not see it. Where that matters the leader is asked, one message a request.
"""

from base64 import b64decode
from typing import Any

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.log.bus import ApiError, Bus
from dreamforge.runtime.log.headers import parse_header_lines
from dreamforge.runtime.log.message import LogMessage, as_stored

# err_code of nats-server: there is no such message.
NO_MESSAGE = 10037


async def last_sequence(bus: Bus, stream: str) -> int:
    """The sequence of the newest message of a stream. Errors: DependencyAway, ApiError."""
    info = await bus.request(f"$JS.API.STREAM.INFO.{stream}", None)
    return int(info["state"]["last_seq"])


async def version(bus: Bus, stream: str, subject_filter: str) -> int:
    """The last sequence under a filter, 0 if there is none. Errors: DependencyAway."""
    found = await _message(bus, stream, {"last_by_subj": subject_filter})
    return int(found["seq"]) if found else 0


async def one(bus: Bus, stream: str, sequence: int) -> LogMessage | None:
    """The message at a sequence; None if it is not (any more) in the stream. Errors: DependencyAway."""
    found = await _message(bus, stream, {"seq": sequence})
    return _stored(found) if found else None


async def after(bus: Bus, stream: str, subject_filter: str, sequence: int, *, covering: int) -> list[LogMessage]:
    """Every message under a filter past a sequence, in stream order, with everything up to the sequence `covering`.

    One by one: for the few that a replica had not applied yet, or an aggregate with its few dozen events.
    Errors: DependencyAway; also when the leader itself ends before `covering`: it is partitioned and not yet deposed.
    """
    if covering:
        await _reaches(bus, stream, covering)
    found: list[LogMessage] = []
    while message := await _message(bus, stream, {"seq": sequence + 1, "next_by_subj": subject_filter}):
        found.append(_stored(message))
        sequence = found[-1].sequence
    return found


async def _reaches(bus: Bus, stream: str, sequence: int) -> None:
    try:
        newest = await last_sequence(bus, stream)
    except ApiError as error:
        raise DependencyAway(dependency="nats", reason=str(error)) from error
    if newest < sequence:
        raise DependencyAway(dependency="nats", reason=f"{stream} ends at {newest} here, but {sequence} exists")


async def _message(bus: Bus, stream: str, request: dict[str, object]) -> dict[str, Any] | None:  # Any: JSON
    try:
        found: dict[str, Any] = (await bus.request(f"$JS.API.STREAM.MSG.GET.{stream}", request))["message"]
    except ApiError as error:
        if error.code == NO_MESSAGE:
            return None
        raise DependencyAway(dependency="nats", reason=str(error)) from error
    return found


def _stored(message: dict[str, Any]) -> LogMessage:  # Any: JSON
    _, _, lines = b64decode(message.get("hdrs", "")).partition(b"\r\n")  # the first one names the protocol
    headers = as_stored(parse_header_lines(lines))
    return LogMessage(message["subject"], headers, b64decode(message.get("data", "")), int(message["seq"]))


async def stored_last(bus: Bus, stream: str, subject: str) -> tuple[int, dict[str, str], bytes] | None:
    """The newest message of a subject: sequence, all headers as stored, bytes. Errors: DependencyAway."""
    found = await _message(bus, stream, {"last_by_subj": subject})
    if found is None:
        return None
    _, _, lines = b64decode(found.get("hdrs", "")).partition(b"\r\n")
    return int(found["seq"]), parse_header_lines(lines), b64decode(found.get("data", ""))
