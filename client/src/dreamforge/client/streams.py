"""One connection of an event stream: messages as they arrive, interrupted where the deadline of the caller is near."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

import httpx
from httpx_sse import EventSource, ServerSentEvent

from dreamforge.client.machine import Deadline
from dreamforge.client.transport import Request, Transport
from dreamforge.contracts.jobs.status import TERMINAL

# Heartbeats arrive every 15 s: after three times as long without one the connection is dead.
SILENCE_SECONDS = 45.0
# The last event of a job has the name of the status that it leads to.
TERMINAL_TOKENS = frozenset(map(str, TERMINAL))


class StreamInterrupted(Exception):
    """The connection may be silent for longer than the caller waits: open it again, with a shorter time."""


class StreamEnded(Exception):
    """There is no event after the last one that was received."""


class DeadlinePassed(Exception):
    """The caller waits no longer."""


class StreamRefused(Exception):
    """The gateway opened no stream."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response)
        self.response = response


@dataclass(slots=True)
class StreamPosition:
    """How far a stream was received, over all its connections."""

    last_id: str = ""
    ended: int = 0
    """Jobs whose last event has arrived."""
    failures: int = 0
    """Connections in a row that brought nothing."""
    asked_seconds: float = 0.0
    """The pause that the gateway asked for before the next connection."""

    def take(self, message: ServerSentEvent) -> bool:
        """Count a message; False: it is no event but a heartbeat, or a frame with nothing but `retry`."""
        if message.retry is not None:
            self.asked_seconds = message.retry / 1000
        if not message.data:
            self.last_id = message.id or self.last_id  # a stream without history says where it begins
            return False
        self.last_id, self.failures, self.asked_seconds = message.id or self.last_id, 0, 0.0
        self.ended += message.event in TERMINAL_TOKENS
        return True

    @property
    def sequence(self) -> int:
        """The log sequence of the last event: a read after it must be at least as new.

        >>> StreamPosition("1042-77").sequence, StreamPosition().sequence
        (1042, 0)
        """
        sequence = self.last_id.partition("-")[0]
        return int(sequence) if sequence.isdecimal() else 0

    def __str__(self) -> str:
        return self.last_id or "its start"


def silence_seconds(deadline: Deadline) -> float:
    """How long a stream that is opened now may be silent.

    >>> silence_seconds(Deadline())
    45.0
    """
    return min(SILENCE_SECONDS, max(0.001, deadline.left_seconds()))


async def open_stream(
    transport: Transport, path: str, last_id: str, deadline: Deadline
) -> AsyncGenerator[ServerSentEvent, None]:
    """The messages of one connection, after the one with `last_id`; heartbeats may come as messages without data.

    httpx takes the time for one read once, when a response is opened. So when less than half of it is left until the
    deadline, the stream is opened anew: a deadline is exact at the price of a few connections, though heartbeats come.
    Errors: StreamEnded, StreamRefused, StreamInterrupted, httpx.TransportError.
    """
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    silence = silence_seconds(deadline)
    request = Request("GET", path, {}, headers, silence_seconds=silence)
    async with transport.open(request) as opened:
        if opened.response.status_code == httpx.codes.NO_CONTENT:
            raise StreamEnded
        if opened.response.status_code != httpx.codes.OK:
            await opened.read()
            raise StreamRefused(opened.response)
        parts = _until(opened.parts(), deadline, silence)
        decoded = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=_Parts(parts))
        async for message in EventSource(decoded).aiter_sse():
            yield message


async def _until(
    parts: AsyncIterator[bytes], deadline: Deadline, allowed_seconds: float
) -> AsyncGenerator[bytes, None]:
    async for part in parts:
        yield part
        if deadline.left_seconds() < allowed_seconds / 2:
            raise StreamInterrupted


class _Parts(httpx.AsyncByteStream):
    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._parts
