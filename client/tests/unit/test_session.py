"""A request is repeated where that is safe, a stream is resumed, and a read sees the writes before it; in both ways."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest

from dreamforge.client.blocking import items_of
from dreamforge.client.connection import Connection
from dreamforge.client.errors import GatewayUnavailable, KeyRefused, LimitExceeded, RequestRefused, StateConflict
from dreamforge.client.machine import Deadline
from dreamforge.client.retries import Retries
from dreamforge.client.session import GatewaySession
from dreamforge.client.streams import DeadlinePassed
from dreamforge.client.transport import AsyncTransport, BlockingTransport, run_now

EVENT_STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}
QUICK = Retries(first_pause_seconds=0.001, last_pause_seconds=0.001)
Answer = Callable[[httpx.Request], httpx.Response]


class Broken(httpx.AsyncByteStream, httpx.SyncByteStream):
    """A body that ends in the middle, as when a gateway is killed."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._text.encode()
        raise httpx.ReadError("connection reset")

    def __iter__(self) -> Iterator[bytes]:
        yield self._text.encode()
        raise httpx.ReadError("connection reset")


def session(answer: Answer, retries: Retries = QUICK) -> GatewaySession:
    connection = Connection("http://gateway", {})
    return GatewaySession(connection, AsyncTransport(connection, httpx.MockTransport(answer)), retries)


def blocking_session(answer: Answer) -> GatewaySession:
    connection = Connection("http://gateway", {})
    return GatewaySession(connection, BlockingTransport(connection, httpx.MockTransport(answer)), QUICK)


def frame(event_id: str, token: str) -> str:
    return f"id: {event_id}\nevent: {token}\ndata: {{}}\n\n"


class Breaking:
    """A gateway whose stream breaks in the middle of a frame."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if request.url.path.endswith("/events"):
            if "Last-Event-ID" not in request.headers:
                half = frame("5-0", "requested") + frame("5-7", "step") + "id: 6-7\nevent: sta"
                return httpx.Response(200, headers=EVENT_STREAM, stream=Broken(half))
            return httpx.Response(200, headers=EVENT_STREAM, text=frame("6-7", "started") + frame("9-7", "succeeded"))
        return httpx.Response(200, json={"artifacts": []})

    def check(self, seen: list[str]) -> None:
        assert seen == ["requested", "step", "started", "succeeded"]
        assert self.asked[1].headers["Last-Event-ID"] == "5-7"
        assert self.asked[2].headers["Forge-Min-Sequence"] == "9"


async def test_a_broken_stream_goes_on_after_the_last_event_and_the_read_knows_the_end() -> None:
    answer = Breaking()
    client = session(answer)
    seen = [message.event async for message in client.events("/v1/jobs/J/events")]
    await client.read("/v1/jobs/J")
    answer.check(seen)


def test_so_does_a_blocking_one() -> None:
    answer = Breaking()
    client = blocking_session(answer)
    seen = [message.event for message in items_of(client.events("/v1/jobs/J/events"))]
    run_now(client.read("/v1/jobs/J"))
    answer.check(seen)


async def test_a_stream_without_later_events_ends() -> None:
    client = session(lambda _request: httpx.Response(204))
    assert [message async for message in client.events("/v1/jobs/J/events")] == []


async def test_a_creation_is_repeated_under_the_same_key() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadTimeout("lost")
        if len(keys) == 2:
            return httpx.Response(503, json={"title": "unavailable"})
        return httpx.Response(202, json={"job_id": "J"}, headers={"Forge-Sequence": "3"})

    assert (await session(answer).create("/v1/jobs", {"prompt": "a"}))["job_id"] == "J"
    assert len(keys) == 3
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [(422, {}, RequestRefused), (401, {}, KeyRefused), (429, {}, LimitExceeded),
     (429, {"Retry-After": "3600"}, LimitExceeded)],
)  # fmt: skip
async def test_a_refusal_is_not_repeated(status: int, headers: dict[str, str], kind: type[Exception]) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status, json={"detail": "no"}, headers=headers)

    with pytest.raises(kind, match="no"):
        await session(answer).create("/v1/jobs", {})
    assert len(asked) == 1


async def test_a_limit_that_is_free_soon_is_waited_for() -> None:
    answers = iter((httpx.Response(429, headers={"Retry-After": "0"}), httpx.Response(202, json={"job_id": "J"})))
    assert await session(lambda _request: next(answers)).create("/v1/jobs", {}) == {"job_id": "J"}


async def test_what_may_have_been_done_is_not_sent_again_but_what_was_never_sent_is() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        raise httpx.ConnectError("refused") if len(asked) < 3 else httpx.ReadTimeout("lost")

    with pytest.raises(GatewayUnavailable, match="no gateway answers at http://gateway"):
        await session(answer).write("POST", "/v1/webhooks", {})
    assert len(asked) == 3


async def test_tries_are_bounded() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ConnectError("refused")

    with pytest.raises(GatewayUnavailable):
        await session(answer, Retries(tries=3, first_pause_seconds=0)).read("/v1/jobs")
    assert len(asked) == 3


async def test_heartbeats_are_no_events_and_the_delay_that_the_gateway_asks_for_is_kept() -> None:
    pauses: list[float] = []
    answers = iter((
        frame("5-0", "requested") + ": heartbeat\n\n" + "retry: 400\n\n",
        ": heartbeat\n\n" + frame("9-0", "succeeded"),
    ))  # fmt: skip
    client = session(lambda _request: httpx.Response(200, headers=EVENT_STREAM, text=next(answers)))

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    client.transport.pause = pause  # type: ignore[method-assign]
    assert [message.event async for message in client.events("/v1/jobs/J/events")] == ["requested", "succeeded"]
    assert pauses == [0.4]


async def test_after_the_log_was_replaced_reads_begin_anew() -> None:
    answers = iter((
        httpx.Response(202, json={}, headers={"Forge-Sequence": "7", "Forge-Log": "0123abcd"}),
        httpx.Response(409, json={"code": "sequence_of_other_log", "detail": "another log"}),
        httpx.Response(200, json={}),
    ))  # fmt: skip
    sent: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        return next(answers)

    client = session(answer)
    await client.create("/v1/jobs", {})
    with pytest.raises(StateConflict, match="another log"):
        await client.read("/v1/jobs")
    await client.read("/v1/jobs")
    assert (sent[1]["Forge-Min-Sequence"], sent[1]["Forge-Log"]) == ("7", "0123abcd")
    assert "Forge-Min-Sequence" not in sent[2]


async def test_a_deadline_is_kept_though_heartbeats_come() -> None:
    opened: list[httpx.Request] = []

    class Beating(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b": still here\n\n"
                await asyncio.sleep(0.02)

    def answer(request: httpx.Request) -> httpx.Response:
        opened.append(request)
        return httpx.Response(200, headers=EVENT_STREAM, stream=Beating())

    with pytest.raises(DeadlinePassed):
        async for _ in session(answer).events("/v1/jobs/J/events", deadline=Deadline.after(0.2)):
            pass
    assert len(opened) < 20  # each for half of what is left
