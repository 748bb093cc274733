"""The client retries only what is safe, resumes streams, and reads its own writes."""

from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.failure import CommandError, ProblemError
from dreamforge.cli.settings import CliSettings
from dreamforge.runtime import clock

SETTINGS = CliSettings(_env_file=None, gateway_url="http://gateway")
EVENT_STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}
Answer = Callable[[httpx.Request], httpx.Response]


class Broken(httpx.AsyncByteStream):
    """A body that ends in the middle, as when a gateway is killed."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._text.encode()
        raise httpx.ReadError("connection reset")


def gateway(answer: Answer, settings: CliSettings = SETTINGS) -> GatewayClient:
    return GatewayClient(settings, lambda _text: None, httpx.MockTransport(answer))


def frame(event_id: str, token: str) -> str:
    return f"id: {event_id}\nevent: {token}\ndata: {{}}\n\n"


async def test_a_broken_stream_goes_on_after_the_last_event_and_the_read_knows_the_end() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.path.endswith("/events"):
            if "Last-Event-ID" not in request.headers:
                half = frame("5-0", "requested") + frame("5-7", "step") + "id: 6-7\nevent: sta"
                return httpx.Response(200, headers=EVENT_STREAM, stream=Broken(half))
            return httpx.Response(200, headers=EVENT_STREAM, text=frame("6-7", "started") + frame("9-7", "succeeded"))
        return httpx.Response(200, json={"artifacts": []})

    async with gateway(answer) as client:
        seen = [message.event async for message in client.events("J")]
        await client.job("J")
    assert seen == ["requested", "step", "started", "succeeded"]
    assert asked[1].headers["Last-Event-ID"] == "5-7"
    assert asked[2].headers["Forge-Min-Sequence"] == "9"


async def test_a_stream_without_later_events_ends() -> None:
    async with gateway(lambda _request: httpx.Response(204)) as client:
        assert [message async for message in client.events("J")] == []


async def test_a_submission_is_repeated_under_the_same_key() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadTimeout("lost")
        if len(keys) == 2:
            return httpx.Response(503, json={"title": "unavailable"})
        return httpx.Response(202, json={"job_id": "J"}, headers={"Forge-Sequence": "3"})

    async with gateway(answer) as client:
        assert (await client.submit({"prompt": "a"}))["job_id"] == "J"
    assert len(keys) == 3
    assert len(set(keys)) == 1


async def test_a_refusal_is_not_repeated() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(422, json={"detail": "no"})

    async with gateway(answer) as client:
        with pytest.raises(ProblemError, match="no"):
            await client.submit({})
    assert len(asked) == 1


async def test_without_a_configured_gateway_there_is_one_try() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ConnectError("refused")

    async with gateway(answer, CliSettings(_env_file=None)) as client:
        with pytest.raises(CommandError, match="no gateway answers"):
            await client.job("J")
    assert len(asked) == 1


async def test_heartbeats_are_no_events_and_the_delay_that_the_gateway_asks_for_is_kept() -> None:
    waits: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        waits.append(clock.monotonic_seconds())
        if len(waits) == 1:
            text = frame("5-0", "requested") + ": heartbeat\n\n" + "retry: 400\n\n"
            return httpx.Response(200, headers=EVENT_STREAM, text=text)
        return httpx.Response(200, headers=EVENT_STREAM, text=": heartbeat\n\n" + frame("9-0", "succeeded"))

    async with gateway(answer) as client:
        assert [message.event async for message in client.events("J")] == ["requested", "succeeded"]
    assert waits[1] - waits[0] >= 0.4
