"""No request for a stranger reaches this machine or its network, by whatever name, notation or redirect."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from dreamforge.runtime.http.outgoing import OutgoingTransport
from dreamforge.runtime.http.outgoing_rule import OutgoingRule
from dreamforge.runtime.network import AddressRefused, internal_kind, networks_of

PUBLIC = "93.184.216.34"


@asynccontextmanager
async def serving(answer: bytes, asked: list[bytes]) -> AsyncIterator[int]:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


def client(rule: OutgoingRule = OutgoingRule()) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=OutgoingTransport(rule, verify=False, trust_env=False), follow_redirects=True)


def resolving_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Resolve `rebinding.example` to each of these in turn, as a server of names that an attacker runs may."""
    loop, asked, left = asyncio.get_running_loop(), list[str](), list(answers)

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)
    return asked


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"), ("::1", "loopback"), ("0.0.0.0", "unspecified"), ("::", "unspecified"),
        ("10.1.2.3", "private"), ("172.16.0.1", "private"), ("192.168.1.1", "private"), ("100.64.0.1", "private"),
        ("169.254.169.254", "link-local"), ("fe80::1", "link-local"), ("fd00::1", "private"),
        ("224.0.0.1", "multicast"),
        ("::ffff:10.0.0.1", "private"), ("64:ff9b::7f00:1", "loopback"), ("2002:7f00:1::", "loopback"),
        ("255.255.255.255", "private"), (PUBLIC, ""), ("2606:2800:220:1:248:1893:25c8:1946", ""),
    ],
)  # fmt: skip
def test_what_is_internal_is_told_from_what_is_public(address: str, kind: str) -> None:
    assert internal_kind(address) == kind


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::ffff:127.0.0.1]"])
async def test_this_machine_is_refused_in_every_notation(host: str) -> None:
    asked: list[bytes] = []
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", asked) as port, client() as http:
        with pytest.raises((AddressRefused, httpx.InvalidURL, httpx.ConnectError)):
            await http.get(f"http://{host}:{port}/")
    assert not asked


async def test_a_redirect_into_the_network_is_refused() -> None:
    asked: list[bytes] = []
    inner: list[bytes] = []
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", inner) as inside:
        answer = f"HTTP/1.1 302 Found\r\nLocation: http://localhost:{inside}/\r\nContent-Length: 0\r\n\r\n".encode()
        async with (
            serving(answer, asked) as port,
            client(OutgoingRule(servers=frozenset({("127.0.0.1", port)}))) as http,
        ):
            with pytest.raises(AddressRefused, match="loopback"):
                await http.get(f"http://127.0.0.1:{port}/")
    assert len(asked) == 1
    assert not inner


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", asked) as port:
        names = resolving_to(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
        rule = OutgoingRule(networks=networks_of("127.0.0.1"))
        async with client(rule) as http:
            assert (await http.get(f"http://rebinding.example:{port}/")).text == "ok"
            assert b"host: rebinding.example" in asked[0].lower()
            with pytest.raises(AddressRefused, match=r"rebinding.example is 10\.0\.0\.1"):
                await http.get(f"http://rebinding.example:{port}/")  # the second connection resolves anew
    assert names == ["rebinding.example"] * 2


async def test_of_several_addresses_only_those_that_are_allowed_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OutgoingRule().refusal("x.example", 80, PUBLIC) is None
    asked: list[bytes] = []
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", asked) as port:
        resolving_to(monkeypatch, ["10.0.0.1", "127.0.0.1"])
        async with client(OutgoingRule(networks=networks_of("127.0.0.0/8"))) as http:
            assert (await http.get(f"http://both.example:{port}/")).status_code == httpx.codes.OK
        async with client() as http:
            with pytest.raises(AddressRefused):
                await http.get(f"http://both.example:{port}/")
    assert len(asked) == 1


async def test_a_proxy_is_not_used_to_reach_an_internal_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", asked) as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        async with httpx.AsyncClient(transport=OutgoingTransport(verify=False)) as http:
            await http.get("http://model.example/")
            with pytest.raises(AddressRefused, match="link-local"):
                await http.get("http://169.254.169.254/latest/meta-data")
    assert len(asked) == 1
    assert asked[0].startswith(b"GET http://model.example/ ")
