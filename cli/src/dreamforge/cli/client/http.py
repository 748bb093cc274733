"""The HTTP client of downloads from servers that others name; the gateway is asked over `dreamforge.client`."""

from typing import Any

import httpx

from dreamforge.client.connection import UNUSABLE, unusable
from dreamforge.runtime.http.outgoing import OutgoingTransport
from dreamforge.runtime.http.outgoing_rule import OutgoingRule


def http_client(rule: OutgoingRule, **options: Any) -> httpx.AsyncClient:  # Any: httpx's own options
    """A client that connects to the addresses that the rule allows, with the environment's proxies and certificates.

    Errors: InvalidConnection when the environment names a proxy or a certificate file that cannot be used.
    """
    try:
        return httpx.AsyncClient(transport=OutgoingTransport(rule, verify=httpx.create_ssl_context()), **options)
    except UNUSABLE as error:
        raise unusable(error) from error
