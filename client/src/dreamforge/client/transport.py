"""The two ways to the network. All logic of the client is written once, as coroutines over one of these.

Over `BlockingTransport` nothing is ever awaited for long: each await is done when it returns, so that `run_now` runs a
coroutine to its end without an event loop.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary

import httpx

from dreamforge.client.connection import (
    CONNECT_SECONDS,
    UNUSABLE,
    Connection,
    http_options,
    unusable,
)

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, to a path of the API or a whole URL. `repeatable`: sent twice it does no more than once."""

    method: str
    url: str
    query: dict[str, str | int] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    repeatable: bool = True
    silence_seconds: float | None = None
    """How long nothing may arrive before the connection counts as dead; None: as the connection says."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A response whose body was not read yet."""

    response: httpx.Response
    read: Callable[[], Awaitable[bytes]]
    parts: Callable[[], AsyncGenerator[bytes, None]]


class Transport(Protocol):
    """What the logic needs of the outside."""

    def open(self, request: Request) -> AbstractAsyncContextManager[Opened]:
        """Send a request. Errors: httpx.TransportError, while the body is read too; InvalidConnection."""

    async def pause(self, seconds: float) -> None:
        """Wait."""

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that waits for a disk."""

    async def close(self) -> None:
        """Close every connection."""


class AsyncTransport:
    """On asyncio. Connections belong to the event loop that they were made in, so each loop has its own."""

    def __init__(self, connection: Connection, network: httpx.AsyncBaseTransport | None = None) -> None:
        self._connection = connection
        self._network = network
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        with self._lock:
            found = self._clients.get(loop)
            if found is None:
                found = self._clients[loop] = self._new()
        return found

    def _new(self) -> httpx.AsyncClient:
        options = http_options(self._connection.base_url)
        try:
            return httpx.AsyncClient(headers=self._connection.headers, transport=self._network, **options)
        except UNUSABLE as error:
            raise unusable(error) from error

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Opened]:
        """As `Transport.open`."""
        async with self._client().stream(**_options(request, self._connection)) as response:

            async def parts() -> AsyncGenerator[bytes, None]:
                async for part in response.aiter_bytes():
                    yield part

            yield Opened(response, response.aread, parts)

    async def pause(self, seconds: float) -> None:
        """As `Transport.pause`."""
        await asyncio.sleep(seconds)

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """In a thread."""
        return await asyncio.to_thread(function, *args, **kwargs)

    async def close(self) -> None:
        """Close the connections of this event loop; those of others go with them."""
        with self._lock:
            found = self._clients.pop(asyncio.get_running_loop(), None)
        if found is not None:
            await found.aclose()


class BlockingTransport:
    """In the thread of the caller; several threads may use it at the same time."""

    def __init__(self, connection: Connection, network: httpx.BaseTransport | None = None) -> None:
        self._connection = connection
        self._closed = threading.Event()
        try:
            options = http_options(connection.base_url)
            self._http = httpx.Client(headers=connection.headers, transport=network, **options)
        except UNUSABLE as error:
            raise unusable(error) from error

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Opened]:
        """As `Transport.open`."""
        with self._http.stream(**_options(request, self._connection)) as response:

            async def read() -> bytes:
                return response.read()

            async def parts() -> AsyncGenerator[bytes, None]:
                for part in response.iter_bytes():
                    yield part

            yield Opened(response, read, parts)

    async def pause(self, seconds: float) -> None:
        """Wait; closing the client ends it."""
        self._closed.wait(seconds)

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Here."""
        return function(*args, **kwargs)

    async def close(self) -> None:
        """As `Transport.close`."""
        self._closed.set()
        self._http.close()


def _options(request: Request, connection: Connection) -> dict[str, Any]:  # Any: httpx's own options
    silence = connection.answer_seconds if request.silence_seconds is None else request.silence_seconds
    timeout = httpx.Timeout(silence, connect=CONNECT_SECONDS)
    return {
        "method": request.method,
        "url": request.url,
        "params": request.query or None,
        "follow_redirects": request.method == "GET",
        "headers": request.headers,
        "content": request.content,
        "timeout": timeout,
    }


def run_now(work: Awaitable[T]) -> T:
    """The result of a coroutine over the blocking transport, without an event loop."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("a coroutine over the blocking transport never waits for an event loop")
