"""A load balancer in front of the gateways, as a transport of the client's SDK: one address, several servers."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx

# A gateway to which no connection could be made gets none for so long.
PASSED_OVER_SECONDS = 3.0
# Event streams are cut after a random time, as by balancers that restart: readers resume, at any gateway.
CUT_SECONDS = (0.5, 20.0)
NOT_CONNECTED = (httpx.ConnectError, httpx.ConnectTimeout)


@dataclass
class LoadBalancer(httpx.AsyncBaseTransport):
    """Requests go to a random gateway, to another one where no connection can be made. Nothing else is repeated.

    `failures` counts answers of 5xx and requests without an answer: what is left to the SDK.
    """

    gateways: tuple[str, ...]
    rng: random.Random
    failures: Counter[str] = field(default_factory=Counter)
    streams: Counter[str] = field(default_factory=Counter)  # path of an event stream -> connections
    _network: httpx.AsyncHTTPTransport = field(
        default_factory=lambda: httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))
    )
    _passed_over: dict[str, float] = field(default_factory=dict)  # gateway -> until when

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Errors: httpx.TransportError."""
        is_stream = request.headers.get("Accept") == "text/event-stream"
        self.streams[request.url.path] += is_stream
        try:
            response = await self._send(request)
        except httpx.TransportError as error:
            self.failures[type(error).__name__] += 1
            raise
        if response.status_code >= 500:
            self.failures[str(response.status_code)] += 1
        if is_stream and response.status_code == 200:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _CutStream(response.stream, self.rng.uniform(*CUT_SECONDS))
        return response

    async def _send(self, request: httpx.Request) -> httpx.Response:
        gateways = sorted(self.gateways, key=lambda gateway: (self._is_passed_over(gateway), self.rng.random()))
        for gateway in gateways:
            target = httpx.URL(gateway)
            request.url = request.url.copy_with(host=target.host, port=target.port)
            try:
                return await self._network.handle_async_request(request)
            except NOT_CONNECTED:
                self._passed_over[gateway] = time.monotonic() + PASSED_OVER_SECONDS
                if gateway == gateways[-1]:
                    raise
        raise AssertionError("there is no gateway")

    def _is_passed_over(self, gateway: str) -> bool:
        return self._passed_over.get(gateway, 0.0) > time.monotonic()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._network.aclose()


@dataclass
class _CutStream(httpx.AsyncByteStream):
    stream: httpx.AsyncByteStream
    seconds: float

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self.stream)
        try:
            async with asyncio.timeout(self.seconds):
                async for part in parts:
                    yield part
        except TimeoutError:
            raise httpx.ReadError("the load balancer closed it") from None

    async def aclose(self) -> None:
        await self.stream.aclose()
