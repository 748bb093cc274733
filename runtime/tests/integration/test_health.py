"""Health answers over HTTP: alive, ready or not and why, and metrics."""

import asyncio
import json
import urllib.request
from urllib.error import HTTPError

import pytest

from dreamforge.runtime.service.health import HealthServer, ReadinessChecks


def fetch(address: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{address}{path}") as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


async def test_readiness_reports_each_check_and_its_reason() -> None:
    reasons: list[str] = ["postgres is unavailable"]

    async def check() -> None:
        if reasons:
            raise RuntimeError(reasons[0])

    server = HealthServer("127.0.0.1", 0, {"postgres": check})
    server.start()
    try:
        assert (await asyncio.to_thread(fetch, server.address, "/healthz"))[0] == 200
        status, body = await asyncio.to_thread(fetch, server.address, "/readyz")
        assert (status, json.loads(body)["checks"]) == (503, {"postgres": "postgres is unavailable"})
        reasons.clear()
        assert (await asyncio.to_thread(fetch, server.address, "/readyz"))[0] == 200
        assert "process_start_time_seconds" in (await asyncio.to_thread(fetch, server.address, "/metrics"))[1]
        assert (await asyncio.to_thread(fetch, server.address, "/nothing"))[0] == 404
    finally:
        server.stop()


async def test_head_is_a_get_without_its_body() -> None:
    def head(address: str, path: str) -> tuple[int, str | None, bytes]:
        request = urllib.request.Request(f"http://{address}{path}", method="HEAD")
        with urllib.request.urlopen(request) as response:
            return response.status, response.headers["Content-Length"], response.read()

    server = HealthServer("127.0.0.1", 0, {})
    server.start()
    try:
        body = (await asyncio.to_thread(fetch, server.address, "/healthz"))[1]
        assert await asyncio.to_thread(head, server.address, "/healthz") == (200, str(len(body)), b"")
        assert (await asyncio.to_thread(head, server.address, "/metrics"))[2] == b""
    finally:
        server.stop()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_it_listens_on_an_ipv6_address(host: str) -> None:
    server = HealthServer(host, 0, {})
    server.start()
    try:
        assert server.address.startswith("[::1]:")
        assert (await asyncio.to_thread(fetch, server.address, "/healthz"))[0] == 200
    finally:
        server.stop()


async def test_a_check_that_hangs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamforge.runtime.service.health.CHECK_SECONDS", 0.05)
    answers = asyncio.Event()
    started: list[None] = []

    async def check() -> None:
        started.append(None)
        await answers.wait()

    readiness = ReadinessChecks({"s3": check})
    for _ in range(2):
        assert await readiness.results() == {"s3": "no answer in 0.05 s"}
    assert len(started) == 1, "not started again beside itself"
    answers.set()
    assert await readiness.results() == {"s3": "ok"}


async def test_ready_is_remembered_for_a_moment_and_a_reason_is_not() -> None:
    asked: list[None] = []
    reasons = ["away"]

    async def check() -> None:
        asked.append(None)
        if reasons:
            raise RuntimeError(reasons.pop())

    readiness = ReadinessChecks({"s3": check})
    assert await readiness.results() == {"s3": "away"}
    assert await asyncio.gather(*(readiness.results() for _ in range(5))) == [{"s3": "ok"}] * 5
    assert len(asked) == 2
