"""Requests to this machine never go to a proxy; others do, and certificates of the environment are trusted."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from dreamforge.client.connection import Connection, http_options
from dreamforge.client.errors import InvalidConnection
from dreamforge.client.transport import AsyncTransport, BlockingTransport, Request

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Listener:
    """A real server that answers everything; `asked` has the targets of its requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.split(" ")[1])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()


async def listening(host: str = "127.0.0.1") -> AsyncIterator[Listener]:
    listener = Listener()
    async with await asyncio.start_server(listener.answer, host, 0) as server:
        port = server.sockets[0].getsockname()[1]
        listener.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        yield listener


@pytest.fixture
async def gateway() -> AsyncIterator[Listener]:
    async for each in listening():
        yield each


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    async for each in listening():
        monkeypatch.setenv("http_proxy", each.url)
        yield each


async def asked(url: str, path: str = "/") -> str:
    """What the server at a URL answers to a client whose gateway it is."""
    transport = AsyncTransport(Connection.of(url, "", ""))
    try:
        async with transport.open(Request("GET", path)) as opened:
            return (await opened.read()).decode()
    finally:
        await transport.close()


async def test_this_machine_is_asked_directly(gateway: Listener, proxy: Listener) -> None:
    port = gateway.url.rpartition(":")[2]
    for base in (gateway.url, f"http://localhost:{port}", f"http://127.0.0.1:{port}"):
        assert await asked(base, "/healthz") == "ok"
    async with httpx.AsyncClient(**http_options()) as client:  # no base URL: whatever is asked for later
        assert (await client.get(gateway.url)).text == "ok"
    assert proxy.asked == []


async def test_ipv6_loopback_is_asked_directly(proxy: Listener) -> None:
    async for listener in listening("::1"):
        await asked(listener.url)
        assert listener.asked == ["/"]
    assert proxy.asked == []


async def test_another_machine_is_asked_through_the_proxy(proxy: Listener) -> None:
    await asked("http://gateway.example", "/v1/jobs")
    assert proxy.asked == ["http://gateway.example/v1/jobs"]


@pytest.mark.parametrize(("name", "value"), [("all_proxy", "socks5://127.0.0.1:1"), ("http_proxy", "what://is it")])
async def test_an_unusable_proxy_matters_only_where_it_is_needed(
    gateway: Listener, proxy: Listener, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert await asked(gateway.url) == "ok"
    with pytest.raises(InvalidConnection, match="proxies or certificates"):
        BlockingTransport(Connection.of("http://gateway.example", "", ""))
    with pytest.raises(InvalidConnection, match="proxies or certificates"):
        await asked("http://gateway.example")


def test_the_certificates_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loaded: list[str | None] = []
    create = ssl.create_default_context

    def noted(*arguments: object, cafile: str | None = None, **options: object) -> ssl.SSLContext:
        loaded.append(cafile)
        return create()

    monkeypatch.setattr(ssl, "create_default_context", noted)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    for base in ("http://127.0.0.1:1", "https://gateway.example", ""):
        http_options(base)
    assert set(loaded) == {str(tmp_path / "ca.pem")}


def test_a_certificate_file_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(InvalidConnection, match="No such file"):
        BlockingTransport(Connection.of("https://gateway.example", "", ""))


def test_arguments_win_over_the_environment_and_both_over_the_default() -> None:
    environment = {"FORGE_GATEWAY_URL": "https://forge.example/api/", "FORGE_API_KEY": "forge_k", "FORGE_TENANT": "t"}
    given = Connection.of(None, None, None, environment)
    assert given.base_url == "https://forge.example/api"
    assert given.headers == {"Authorization": "Bearer forge_k", "Forge-Tenant": "t"}
    assert Connection.of("http://h", "", "", environment) == Connection("http://h", {})
    assert Connection.of(None, None, None, {}).base_url == "http://127.0.0.1:8080"


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://h", "http://", "http://[::1"])
def test_a_url_that_is_none_is_refused_with_one_that_is(url: str) -> None:
    with pytest.raises(InvalidConnection, match=r"gateway's URL"):
        Connection.of(url, "", "")
