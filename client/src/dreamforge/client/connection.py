"""Where the gateway is and who asks it: arguments, else the environment, which has proxies and certificates too."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urljoin

import httpx

from dreamforge.client.errors import InvalidConnection
from dreamforge.contracts.hosts import is_loopback

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_SECONDS = 3.0
# Longer than the gateway waits for its read tables (5 s) before it answers 503 itself.
ANSWER_SECONDS = 15.0
# A proxy, on whatever machine, cannot reach our loopback addresses.
DIRECT: dict[str, None] = {f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")}
VARIABLES = "http_proxy, https_proxy, all_proxy, no_proxy, SSL_CERT_FILE, SSL_CERT_DIR"


@dataclass(frozen=True, slots=True)
class Connection:
    """The address of a gateway, without a slash at its end, and the headers of every request to it."""

    base_url: str
    headers: dict[str, str]
    answer_seconds: float = ANSWER_SECONDS
    """How long the gateway may be silent before a connection counts as dead; of event streams, see `streams`."""

    @classmethod
    def of(
        cls,
        base_url: str | None,
        api_key: str | None,
        tenant: str | None,
        environment: Mapping[str, str] = os.environ,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> Self:
        """From arguments; what is None comes from FORGE_GATEWAY_URL, FORGE_API_KEY, FORGE_TENANT.

        Errors: InvalidConnection.
        """
        url = (base_url if base_url is not None else environment.get("FORGE_GATEWAY_URL", "")) or DEFAULT_URL
        key = api_key if api_key is not None else environment.get("FORGE_API_KEY", "")
        name = tenant if tenant is not None else environment.get("FORGE_TENANT", "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= {"Forge-Tenant": name} if name else {}
        for header, value in headers.items():
            if not (value.isascii() and value.isprintable()):
                raise InvalidConnection(f"{header} must be printable ASCII: look at the API key and the tenant")
        return cls(_base_url(url), headers, answer_seconds)

    def absolute(self, url: str) -> str:
        """A path or a URL of a reply in full: a URL of a reply has the prefix under which the gateway is published.

        >>> Connection("http://h/forge", {}).absolute("/forge/v1/artifacts/1")
        'http://h/forge/v1/artifacts/1'
        """
        return urljoin(f"{self.base_url}/", url)


def _base_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidConnection(f"the gateway's URL {url!r} cannot be read: {error}") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidConnection(f"the gateway's URL is {url!r}, but must be like {DEFAULT_URL} or https://HOST/PREFIX")
    return url.rstrip("/")


def http_options(base_url: str = "") -> dict[str, Any]:  # Any: httpx's own options
    """Options of an httpx client that obeys the environment's proxies and certificates, but never for loopback hosts.

    With a `base_url` on this machine the settings of proxies are not even read: they may be unusable.
    """
    local = is_loopback(httpx.URL(base_url).host) if base_url else False
    return {
        "base_url": base_url,
        "mounts": None if local else DIRECT,
        "trust_env": not local,
        "verify": httpx.create_ssl_context(),
    }


# What making an httpx client of unusable proxies or certificates raises.
UNUSABLE = (OSError, ImportError, ValueError, httpx.InvalidURL)


def unusable(error: Exception) -> InvalidConnection:
    """The error for a client that could not be made."""
    return InvalidConnection(
        f"the proxies or certificates of the environment cannot be used: {error} (look at {VARIABLES})"
    )
