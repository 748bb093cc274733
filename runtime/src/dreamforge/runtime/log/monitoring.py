"""The monitoring page of nats-server, and what a probe of it writes. Its pages are on this machine or in a
private network, so no proxy is asked."""

import json
import ssl
import urllib.error
import urllib.request
from functools import cache

TIMEOUT_SECONDS = 1.0
# What a probe of a stream stores. More than a page of the file system: less may fit into the last page of a file
# although the disk is full.
PROBE_BYTES = 8_192


@cache
def _opener(context: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    handlers = (urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else []))
    return urllib.request.build_opener(*handlers)


def page_of(url: str, context: ssl.SSLContext | None = None) -> bytes:
    """A page as it is; `context`: whom to trust where it is behind TLS. Blocks for up to TIMEOUT_SECONDS.

    Errors: OSError.
    """
    with _opener(context).open(url, timeout=TIMEOUT_SECONDS) as response:
        body: bytes = response.read()
        return body


def problem_of(url: str, context: ssl.SSLContext | None = None) -> str | None:
    """What a server says is wrong with it, streams that it can no longer write to included; "" where nothing is.

    `context` as of `page_of`. None where there is no answer. Blocks for up to TIMEOUT_SECONDS.
    """
    try:
        page_of(f"{url}/healthz", context)
        return ""
    except urllib.error.HTTPError as error:
        return _reason(error.read())
    except OSError:
        return None


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or "unhealthy"
