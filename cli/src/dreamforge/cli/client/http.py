"""The HTTP client of every request of the command: proxies and certificates of the environment, loopback directly."""

from typing import Any

import httpx

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.runtime.http.outgoing import OutgoingRule, OutgoingTransport
from dreamforge.runtime.network import is_loopback

# A proxy, on whatever machine, cannot reach our loopback addresses.
DIRECT: dict[str, httpx.AsyncBaseTransport | None] = {
    f"all://{host}": None for host in ("localhost", "127.0.0.1", "[::1]")
}
VARIABLES = "http_proxy, https_proxy, all_proxy, no_proxy, SSL_CERT_FILE, SSL_CERT_DIR"


def http_client(
    base_url: str = "",
    *,
    rule: OutgoingRule | None = None,
    **options: Any,  # Any: httpx's own options
) -> httpx.AsyncClient:
    """A client that obeys the environment's proxies for every host but loopback ones, and its certificates for all.

    With a `rule` it connects only to the addresses that the rule allows.
    With a `base_url` on this machine the settings of proxies are not even read: they may be unusable.
    Errors: CommandError when the environment names a proxy or a certificate file that cannot be used.
    """
    local = is_loopback(httpx.URL(base_url).host) if base_url else False
    try:
        context = httpx.create_ssl_context()
        if rule is not None:
            return httpx.AsyncClient(base_url=base_url, transport=OutgoingTransport(rule, verify=context), **options)
        return httpx.AsyncClient(
            base_url=base_url,
            mounts=None if local else DIRECT,
            trust_env=not local,
            verify=context,
            **options,
        )
    except (OSError, ImportError, ValueError, httpx.InvalidURL) as error:
        raise CommandError(
            f"the proxies or certificates of the environment cannot be used: {error}",
            Exit.REFUSED,
            hint=f"look at {VARIABLES}",
        ) from None
