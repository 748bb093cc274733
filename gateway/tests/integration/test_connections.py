"""Clients that send slowly, or nothing, cost themselves; everybody else is answered."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from simulated_system import BODY

from dreamforge.gateway.events.hub import CLIENTS
from dreamforge.gateway.http.server import OTHER_CONNECTIONS
from dreamforge.gateway.http.server_protocol import WAITING_MAX
from dreamforge.runtime.testing import eventually

SLOW = {"gateway_head_seconds": 0.4, "gateway_body_seconds": 0.6, "gateway_head_bytes": 8192}


@contextlib.asynccontextmanager
async def connection(client: httpx.AsyncClient) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    yield reader, writer
    writer.close()


async def answer_to(client: httpx.AsyncClient, sent: bytes) -> bytes:
    """Everything that comes until the server closes the connection."""
    async with connection(client) as (reader, writer), asyncio.timeout(10):
        writer.write(sent)
        with contextlib.suppress(ConnectionError):
            return await reader.read()
    return b""


@pytest.mark.parametrize("change_settings", [SLOW])
async def test_slow_clients_are_cut(client: httpx.AsyncClient) -> None:
    host = f"Host: {client.base_url.netloc.decode()}\r\n"
    post = f"POST /v1/jobs HTTP/1.1\r\n{host}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    silent, begun, head, body, endless = await asyncio.gather(
        answer_to(client, b""),
        answer_to(client, b"\r\n"),
        answer_to(client, f"GET /healthz HTTP/1.1\r\n{host}X-Slow: ".encode()),
        answer_to(client, post.encode()),
        answer_to(client, f"GET /healthz HTTP/1.1\r\n{host}X-Endless: ".encode() + b"x" * 20_000),
    )
    assert silent == b""
    assert begun.startswith(b"HTTP/1.1 408 ")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"request_timeout" in head
    assert body.startswith(b"HTTP/1.1 408 ")
    assert endless.startswith(b"HTTP/1.1 431 ")
    assert (await client.get("/v1/jobs")).json()["jobs"] == []


@pytest.mark.parametrize("change_settings", [SLOW | {"gateway_heartbeat_seconds": 0.2}])
async def test_who_waits_for_the_server_is_not_slow(client: httpx.AsyncClient) -> None:
    job_id = (await client.post("/v1/jobs", json=BODY)).json()["job_id"]
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        heartbeats = 0
        async for line in stream.aiter_lines():
            heartbeats += line.startswith(":")
            if heartbeats == 6:  # longer than both deadlines
                break
    async with connection(client) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert (await reader.readuntil(b'{"status":"ok"}')).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("change_settings", [{"gateway_streams": 1}])
async def test_thousands_of_silent_connections_leave_room_for_the_others(client: httpx.AsyncClient) -> None:
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(1_000):
            await opened.enter_async_context(connection(client))
        started = time.monotonic()
        async with httpx.AsyncClient(base_url=client.base_url) as fresh:
            assert (await fresh.get("/healthz")).status_code == 200
            assert (await fresh.post("/v1/jobs", json=BODY)).status_code == 202
        assert time.monotonic() - started < 9  # before any deadline has cut one


@pytest.mark.parametrize("change_settings", [{"gateway_uploads": 2}])
async def test_only_so_many_uploads_are_received_at_once(client: httpx.AsyncClient) -> None:
    head = b"POST /v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 100\r\n\r\n"
    async with connection(client) as (_, first), connection(client) as (_, second):
        first.write(head)
        second.write(head)

        async def refused() -> httpx.Response:
            return await client.post("/v1/uploads", content=b"x", headers={"Content-Type": "image/png"})

        full = await eventually(refused, until=lambda answer: answer.status_code == 503)
        assert (full.json()["code"], full.headers["retry-after"]) == ("uploads_full", "2")
    await eventually(refused, until=lambda answer: answer.status_code == 422)


@pytest.mark.parametrize("change_settings", [{"gateway_heartbeat_seconds": 0.2}])
@pytest.mark.parametrize("requests", [1, 2, 3])
async def test_a_stream_ends_with_its_connection_whatever_waits_behind_it(
    client: httpx.AsyncClient, requests: int
) -> None:
    job_id = (await client.post("/v1/jobs", json=BODY)).json()["job_id"]
    async with connection(client) as (_, writer):
        writer.write(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * requests)
        await eventually(lambda: CLIENTS._value.get() == 1)
    await eventually(lambda: CLIENTS._value.get() == 0)


async def test_only_so_many_requests_wait_behind_one(client: httpx.AsyncClient) -> None:
    job_id = (await client.post("/v1/jobs", json=BODY)).json()["job_id"]
    ask = "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with connection(client) as (reader, writer), asyncio.timeout(10):
        writer.write(ask.format("/healthz").encode() * WAITING_MAX)
        for _ in range(WAITING_MAX):
            await reader.readuntil(b'{"status":"ok"}')
        writer.write((ask.format(f"/v1/jobs/{job_id}/events") + ask.format("/healthz") * (WAITING_MAX + 1)).encode())
        with contextlib.suppress(ConnectionError):
            await reader.read()
    await eventually(lambda: CLIENTS._value.get() == 0)


@pytest.mark.parametrize("change_settings", [{"gateway_streams": 1}])
async def test_connections_that_were_used_once_leave_room_for_the_others(client: httpx.AsyncClient) -> None:
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(OTHER_CONNECTIONS + 20):
            reader, writer = await opened.enter_async_context(connection(client))
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            await reader.readuntil(b'{"status":"ok"}')
        async with httpx.AsyncClient(base_url=client.base_url) as fresh:
            assert (await fresh.post("/v1/jobs", json=BODY)).status_code == 202
