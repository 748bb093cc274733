"""Which requests a browser may send here: pages of other sites are refused. A pure policy, and its ASGI layer.

Three attacks on a service in a private network are closed: DNS rebinding (a foreign name that resolves to this address
arrives in Host), cross-site writes (a form or script of another site), and reading by CORS, which is off until
origins are configured. Programs that are no browsers send neither Origin nor Sec-Fetch-Site and notice nothing.
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from dreamforge.contracts.errors import ForgeError
from dreamforge.gateway.http.errors import CrossOrigin, HostNotAllowed
from dreamforge.gateway.http.middleware import send_problem
from dreamforge.gateway.http.problems import problem_of

READS = frozenset(("GET", "HEAD", "OPTIONS"))
ANY_HOST = "*"
# What stands for the method of a websocket: none that only reads.
WEBSOCKET = "WEBSOCKET"
_LOCAL = frozenset(("localhost",))
# The longest is IPv6 with an IPv4 address at its end (45) and a zone, the name of an interface (15 on Linux).
ADDRESS_CHARS = 64


@dataclass(frozen=True, slots=True)
class OriginPolicy:
    """`hosts`: names that Host may have beside addresses, localhost and this machine's own name ("*": any).

    `origins`: other origins (scheme://host[:port]) whose pages may use this service.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, hosts: Iterable[str], origins: Iterable[str]) -> "OriginPolicy":
        """The policy of an installation; names of hosts are compared without their case."""
        own = socket.gethostname().lower()
        names = {name.lower() for name in hosts} | {own, f"{own.partition('.')[0]}.local"}
        return cls(frozenset(names), frozenset(origin.lower().rstrip("/") for origin in origins))

    def refusal(self, method: str, headers: list[tuple[bytes, bytes]]) -> ForgeError | None:
        """Why a request is refused, if it is.

        >>> policy = OriginPolicy()
        >>> policy.refusal("POST", [(b"host", b"127.0.0.1:8080"), (b"origin", b"http://127.0.0.1:8080")])
        >>> str(policy.refusal("GET", [(b"host", b"rebound.example")]))[:46]
        "the request names the host 'rebound.example', "
        """
        sent: dict[bytes, list[str]] = {name: [] for name in _HEADERS}
        for name, value in headers:
            if name in sent:
                sent[name].append(value.decode("latin-1"))
        hosts = sent[b"host"]
        if len(hosts) > 1 or not all(self._knows(host) for host in hosts):
            return HostNotAllowed(host=", ".join(hosts)[:200])
        if method in READS or (not sent[b"origin"] and not sent[b"sec-fetch-site"]):
            return None
        origin = sent[b"origin"][0].lower() if len(sent[b"origin"]) == 1 else None
        if origin in self.origins:
            return None
        if origin is None:  # a browser of today that withholds its origin still says how it relates
            same = not sent[b"origin"] and sent[b"sec-fetch-site"] in (["same-origin"], ["none"])
        else:
            same = [origin.partition("://")[2]] == [host.lower() for host in hosts]
        return None if same else CrossOrigin(origin=(origin or "unknown")[:200])

    def _knows(self, host: str) -> bool:
        name = _name_of(host)
        return (
            ANY_HOST in self.hosts
            or name in self.hosts
            or name in _LOCAL
            or name.endswith(".localhost")
            or _is_address(name)
        )


_HEADERS = (b"host", b"origin", b"sec-fetch-site")


def _name_of(host: str) -> str:
    """A Host header without its port.

    >>> [_name_of(host) for host in ("[::1]:8080", "Example.org:80", "10.0.0.1", "a:b:c")]
    ['::1', 'example.org', '10.0.0.1', '']
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower() if host.count(":") <= 1 else ""


def _is_address(name: str) -> bool:
    """Whether it is an IP address: no name was resolved, so none can have been rebound."""
    return len(name) <= ADDRESS_CHARS and _is_short_address(name)


@lru_cache(256)
def _is_short_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class OriginCheck:
    """Answers what the policy refuses; the rest goes on to the application."""

    def __init__(self, app: ASGIApp, policy: OriginPolicy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            # A page of any site may open a websocket, with the cookies of this one: it is judged as a write.
            method = scope.get("method", WEBSOCKET)
            if (error := self._policy.refusal(method, scope["headers"])) is not None:
                await send_problem(scope, send, problem_of(error))
                return
        await self._app(scope, receive, send)
