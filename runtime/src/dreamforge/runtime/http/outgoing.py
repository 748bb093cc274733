"""Requests to servers that others name: whatever a name resolves to, no internal address is connected to.

A URL of a stranger, or a redirect, may name a server that only this machine or its network can reach. A name is
resolved once for each connection, the addresses are checked, and one that passed is connected to: a name that resolves
to another address a moment later (DNS rebinding) gains nothing. TLS still verifies the name.

Behind a proxy of the environment, names are resolved by the proxy: only addresses that stand in the URL are checked.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from dreamforge.contracts.hosts import bare, is_loopback
from dreamforge.runtime.http.outgoing_rule import OutgoingRule
from dreamforge.runtime.network import AddressRefused

#: Of one name: more are never needed, and each may take the whole time of a connect.
ADDRESSES_MAX = 8


class OutgoingTransport(httpx.AsyncHTTPTransport):
    """A transport for `httpx.AsyncClient(transport=...)` that connects only to what its rule allows.

    It uses the proxies of the environment, where `trust_env` is true. Errors: AddressRefused, beside those of httpx.
    """

    def __init__(
        self, rule: OutgoingRule = OutgoingRule(), *, verify: ssl.SSLContext | bool = True, trust_env: bool = True
    ) -> None:
        context = verify if isinstance(verify, ssl.SSLContext) else httpx.create_ssl_context(verify=verify)
        super().__init__(verify=context)
        if type(self._pool) is not httpcore.AsyncConnectionPool:
            raise TypeError("another httpx: what is replaced here is not what connects")
        self._pool = httpcore.AsyncConnectionPool(ssl_context=context, network_backend=_CheckedBackend(rule))
        self._rule = rule
        self._proxies = {
            scheme: httpx.AsyncHTTPTransport(verify=context, proxy=proxy if "://" in proxy else f"http://{proxy}")
            for scheme, proxy in (getproxies() if trust_env else {}).items()
            if scheme in ("http", "https", "all")
        }

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if (proxy := self._proxy_of(request.url)) is None:
            return await super().handle_async_request(request)
        if refusal := _refusal_of_literal(self._rule, request.url):
            raise refusal
        return await proxy.handle_async_request(request)

    def _proxy_of(self, url: httpx.URL) -> httpx.AsyncHTTPTransport | None:
        """The proxy that the environment names for a URL. No proxy reaches what is this machine."""
        if not self._proxies or is_loopback(url.host) or proxy_bypass(url.host):
            return None
        return self._proxies.get(url.scheme) or self._proxies.get("all")

    async def aclose(self) -> None:
        await super().aclose()
        for proxy in self._proxies.values():
            await proxy.aclose()


class _CheckedBackend(httpcore.AnyIOBackend):
    """Opens connections: resolves, checks, and connects to the address that was checked."""

    def __init__(self, rule: OutgoingRule) -> None:
        self._rule = rule

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,  # Any: as httpcore has it
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                failed: Exception | None = None
                for address in self._allowed(host, port, await _addresses_of(host, port)):
                    try:
                        return await super().connect_tcp(address, port, None, local_address, socket_options)
                    except httpcore.ConnectError as error:
                        failed = error
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"no connection to {host} within {timeout:g} s") from error
        raise httpcore.ConnectError(f"{host}: {failed}") from failed

    def _allowed(self, host: str, port: int, addresses: list[str]) -> list[str]:
        """Errors: AddressRefused where none is."""
        refusals = {address: self._rule.refusal(host, port, address) for address in addresses}
        allowed = [address for address, refusal in refusals.items() if refusal is None]
        for refusal in () if allowed else refusals.values():
            assert refusal is not None
            raise refusal
        return allowed[:ADDRESSES_MAX]

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("a socket of this machine is never connected to")


async def _addresses_of(host: str, port: int) -> list[str]:
    """What a name, or an address in whatever notation, stands for. Errors: httpcore.ConnectError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(bare(host), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _refusal_of_literal(rule: OutgoingRule, url: httpx.URL) -> AddressRefused | None:
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        return rule.refusal(url.host, port, str(ip_address(bare(url.host))))
    except ValueError:
        return None
