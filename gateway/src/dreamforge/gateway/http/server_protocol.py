"""uvicorn's HTTP protocol with what it leaves out: deadlines and bounds of what a client sends, a hard close that a
response can request, and problem documents.

A connection is in one of three phases: the head of a request is to come, its body is to come, or it is complete.
The first two have a deadline, which counts only while it is the client that is waited for.
"""

import asyncio
import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from dreamforge.gateway.http.problems import MEDIA_TYPE, Problem
from dreamforge.runtime import clock

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

# ASGI extension: a function that closes the connection at once, dropping what the peer has not read.
ABORT = "dreamforge.abort"
# ASGI extension: a function that makes a response that has begun a `DetachedResponse`.
DETACH = "dreamforge.detach"
# Of a request that was forgotten, shared by all, for neither is used any more.
NO_SCOPE = cast("HTTPScope", {})
UNAWAITED = asyncio.Event()
# Requests that may wait behind the one that is answered. Browsers and proxies send none before they have the reply;
# each costs some kilobytes, and one read of the socket has thousands.
WAITING_MAX = 16
# A longer part is written alone: to join it with the head would copy it.
JOINED_BYTES = 64 * 1024


class Phase(enum.Enum):
    """What of a request is to come next."""

    HEAD = "head"
    BODY = "body"
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What clients may take of the server before a request is complete."""

    head_seconds: float
    body_seconds: float
    head_bytes: int
    connections: int
    waiting: "dict[ForgeProtocol, None]" = field(default_factory=dict)
    """Connections from which a request is still to come, the first one or the next, the longest silent first: these
    are given up when there are too many connections."""


class DetachedResponse:
    """The rest of a response, written without a task that waits for what to write.

    A task with the frames of all layers of the application is most of the memory of an open stream, and waking it is
    most of the time of an event. Made by the extension DETACH; the application then returns.
    """

    __slots__ = ("_cycle", "_protocol", "on_lost", "on_room")

    def __init__(
        self,
        protocol: "ForgeProtocol",
        cycle: RequestResponseCycle,
        on_lost: Callable[[], None],
        on_room: Callable[[], None],
    ) -> None:
        """`on_lost`: the connection is gone. `on_room`: it is not `full` any more."""
        self._protocol, self._cycle, self.on_lost, self.on_room = protocol, cycle, on_lost, on_room

    @property
    def full(self) -> bool:
        """Whether the client is behind: what is written now waits in memory."""
        return self._cycle.flow.write_paused

    def write(self, body: bytes) -> None:
        """A part of the body."""
        if body and not self._protocol.transport.is_closing():
            self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body) if self._cycle.chunked_encoding else body)

    def finish(self) -> None:
        """The end of the body."""
        if self._cycle.chunked_encoding and not self._protocol.transport.is_closing():
            self._cycle.transport.write(b"0\r\n\r\n")
        self._protocol.detached_ended(self._cycle)


class JoinedHead:
    """The transport of one response. Its head waits for the first part of the body, to be one write with it.

    It waits no longer than this turn of the event loop: the head of a stream goes out although no event is there yet.
    Two writes are two system calls here, and two at the client.
    """

    __slots__ = ("_head", "_passed", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._head, self._passed = transport, b"", False

    def write(self, data: bytes) -> None:
        """The head is first; what comes after it and the first part is written as it comes."""
        if self._passed:
            self._transport.write(data)
        elif not self._head:
            self._head = data
            asyncio.get_running_loop().call_soon(self.flush)
        elif len(data) > JOINED_BYTES:
            self.flush()
            self._transport.write(data)
        else:
            self._passed = True
            self._transport.write(b"".join((self._head, data)))

    def flush(self) -> None:
        """Write the head, if it still waits."""
        if not self._passed and self._head:
            self._passed = True
            if not self._transport.is_closing():
                self._transport.write(self._head)

    def is_closing(self) -> bool:
        """As that of the connection."""
        return self._transport.is_closing()

    def close(self) -> None:
        """End the connection after what was written."""
        self.flush()
        self._transport.close()


class ForgeConfig(uvicorn.Config):
    """uvicorn's configuration, with the limits of a connection."""

    def __init__(self, app: Any, *, limits: ConnectionLimits, **options: Any) -> None:  # Any: as uvicorn declares them
        super().__init__(app, **options)
        self.limits = limits


class ForgeProtocol(HttpToolsProtocol):
    """One connection."""

    # Beside the attributes of uvicorn: more of them would make each connection's dictionary one of its own, 1 KiB.
    __slots__ = ("answered", "detached", "head_bytes", "phase", "since_seconds")

    def __init__(self, *arguments: Any, **options: Any) -> None:  # Any: as uvicorn declares them
        super().__init__(*arguments, **options)
        self.phase, self.since_seconds, self.head_bytes = Phase.HEAD, 0.0, 0
        self.answered: RequestResponseCycle | None = None
        """The request that is being answered, or was last; `cycle` is the one that came last and may wait its turn."""
        self.detached: DetachedResponse | None = None
        """Its response, where no task writes it."""

    @property
    def limits(self) -> ConnectionLimits:
        """Those of the server."""
        return cast(ForgeConfig, self.config).limits

    def connection_made(self, transport: Any) -> None:  # Any: narrowed by uvicorn
        """Wait for the first head; where there are too many connections, the longest silent one makes room."""
        super().connection_made(transport)
        self._begin(Phase.HEAD)
        waiting = self.limits.waiting
        waiting[self] = None
        if len(self.connections) > self.limits.connections:
            next(iter(waiting)).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it. uvicorn tells only the application of the request that came last."""
        self.limits.waiting.pop(self, None)
        super().connection_lost(exc)
        if self.answered is not None and not self.answered.response_complete:
            self.answered.disconnected = True
            self.answered.message_event.set()
        if (detached := self.detached) is not None:
            self.detached = None
            detached.on_lost()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self.detached is not None:
            self.detached.on_room()

    def data_received(self, data: bytes) -> None:
        """Parse what came. A head that grows beyond its bound is refused before it is complete."""
        if self.phase is Phase.COMPLETE:
            self._begin(Phase.HEAD)
        super().data_received(data)
        if self.phase is Phase.HEAD:
            self.head_bytes += len(data)
            if self.head_bytes > self.limits.head_bytes:
                maximum = f"the head of a request may have {self.limits.head_bytes} bytes"
                self._refuse(Problem(431, "head_too_large", "The request's headers are too large", maximum))

    def on_message_begin(self) -> None:
        """Offer the extensions to the application."""
        super().on_message_begin()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # Any: extensions are the application's own
        scope["extensions"] = {ABORT: self.transport.abort, DETACH: self._detach}

    def on_headers_complete(self) -> None:
        """The body is next."""
        self.limits.waiting.pop(self, None)
        self._begin(Phase.BODY)
        super().on_headers_complete()
        if len(self.pipeline) > WAITING_MAX:
            self.transport.abort()

    def on_message_complete(self) -> None:
        """Nothing more is expected of the client."""
        self.phase = Phase.COMPLETE
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # Any: as the base class narrows it
        self.answered = cycle
        cycle.transport = JoinedHead(cycle.transport)  # type: ignore[assignment]  # of a transport it uses these three
        super()._start_asgi_task(cycle, partial(self._until_detached, app, cycle))

    async def _until_detached(self, app: Any, cycle: RequestResponseCycle, *asgi: Any) -> None:  # Any: see above
        await app(*asgi)
        if self.detached is not None:
            cycle.disconnected = True  # uvicorn takes a response that has not ended for a fault of the application
            self._forget_request(cycle)
        elif self.transport.is_closing():
            cycle.disconnected = True  # a client that was cut off before its stream went on without a task

    def _forget_request(self, cycle: RequestResponseCycle) -> None:
        """Let go of what no detached response needs: what the layers put in the scope is half of an open stream."""
        if self.scope is cycle.scope:
            self.scope, self.headers = NO_SCOPE, []
        cycle.scope, cycle.message_event = NO_SCOPE, UNAWAITED

    def _detach(self, on_lost: Callable[[], None], on_room: Callable[[], None]) -> DetachedResponse | None:
        """The rest of the response that has begun; None where its client has left."""
        assert self.answered is not None
        if self.answered.disconnected or self.transport.is_closing():
            return None
        self.detached = DetachedResponse(self, self.answered, on_lost, on_room)
        return self.detached

    def detached_ended(self, cycle: RequestResponseCycle) -> None:
        """The body of a detached response is complete: what uvicorn does after the last part of any other."""
        self.detached = None
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """Answer what waits, or wait for the next head."""
        if self.answered is not None:
            cast(JoinedHead, self.answered.transport).flush()  # of a response without a body
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self.limits.waiting[self] = None

    def _begin(self, phase: Phase) -> None:
        self.phase, self.since_seconds, self.head_bytes = phase, clock.monotonic_seconds(), 0

    def cut_if_late(self, now_seconds: float) -> None:
        """End the connection if its client has not sent in time what it began."""
        if self.phase is Phase.COMPLETE:
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        if self.flow.read_paused or (answering and self.phase is Phase.HEAD):
            self.since_seconds = now_seconds  # the server is what is waited for
            return
        allowed = self.limits.head_seconds if self.phase is Phase.HEAD else self.limits.body_seconds
        if now_seconds - self.since_seconds <= allowed:
            return
        if self.phase is Phase.HEAD and not self.head_bytes:
            self.transport.close()  # it was opened in advance and never used
            return
        detail = f"the {self.phase.value} of a request may take {allowed:g} s"
        self._refuse(Problem(408, "request_timeout", "The request came too slowly", detail))

    def send_400_response(self, msg: str) -> None:
        """Bytes that are not HTTP get a problem document too."""
        self._refuse(Problem(400, "bad_http", "The request is not HTTP", msg))

    def _refuse(self, problem: Problem) -> None:
        """Answer, if nothing was answered yet, and close: what follows could not be told from what was refused."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = problem.body()
            head = (f"content-type: {MEDIA_TYPE}", f"content-length: {len(body)}", "connection: close", "", "")
            self.transport.write(STATUS_LINE[problem.status] + "\r\n".join(head).encode() + body)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


def cut_late_clients(connections: Iterable[object]) -> None:
    """End every connection whose client is late."""
    now_seconds = clock.monotonic_seconds()
    for connection in tuple(connections):
        if isinstance(connection, ForgeProtocol):
            connection.cut_if_late(now_seconds)
