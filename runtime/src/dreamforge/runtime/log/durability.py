"""Refuses a broker that may lose acknowledged events: they must be on disk.

JetStream acknowledges before it fsyncs unless `sync_interval: always` is configured, and only its monitoring endpoint
shows whether it is.
"""

import asyncio
import json
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loguru import logger

from dreamforge.contracts.errors import BrokerUnfit
from dreamforge.contracts.hosts import is_loopback
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.tls.client_context import client_context

TIMEOUT_SECONDS = 2.0


async def require_durable(settings: CommonSettings) -> None:
    """Ask every server named by FORGE_NATS_MONITOR_URL, waiting until more than half of them have answered.

    What is acknowledged is on more than half of a cluster; so a service starts while a server of three is lost.
    Errors: BrokerUnfit when a server does not fsync, or this cannot be checked; unless FORGE_NATS_ALLOW_UNSYNCED
    accepts it, which is then logged at every start.
    """
    if settings.nats_allow_unsynced:
        logger.warning("FORGE_NATS_ALLOW_UNSYNCED is set: a power failure may lose jobs that were accepted")
        return
    urls = settings.nats_monitor_urls
    if not urls:
        raise BrokerUnfit(
            reason="whether it fsyncs cannot be checked: set FORGE_NATS_MONITOR_URL to its monitoring address"
            " (http://host:8222), or FORGE_NATS_ALLOW_UNSYNCED=true to accept the risk"
        )
    await retry.until_it_works(
        "NATS monitoring", partial(_require_most, urls, settings.nats_ca_file), OSError, ValueError
    )


async def _require_most(urls: tuple[str, ...], ca_file: Path | None) -> None:
    """Errors: BrokerUnfit; OSError or ValueError of a server while half of them or more do not answer."""
    answers = await asyncio.gather(*(varz(url, ca_file) for url in urls), return_exceptions=True)
    silent: dict[str, Exception] = {}
    for url, answer in zip(urls, answers, strict=True):
        if isinstance(answer, OSError | ValueError):
            silent[url] = answer
        elif isinstance(answer, BaseException):
            raise answer
        elif not fsyncs(answer):
            raise BrokerUnfit(
                reason=f"{url} does not fsync before it acknowledges: set `jetstream {{ sync_interval: always }}`"
                " in its configuration, or FORGE_NATS_ALLOW_UNSYNCED=true to accept the risk"
            )
    if 2 * len(silent) >= len(urls):
        raise next(iter(silent.values()))
    for url, error in silent.items():
        logger.warning("whether {} fsyncs was not checked: {}", url, error)


def fsyncs(varz: dict[str, Any]) -> bool:  # Any: JSON
    """Whether a server's /varz shows that it fsyncs before it acknowledges.

    >>> fsyncs({"jetstream": {"config": {"sync_always": True}}}), fsyncs({})
    (True, False)
    """
    return bool(varz.get("jetstream", {}).get("config", {}).get("sync_always", False))


async def varz(url: str, ca_file: Path | None = None) -> dict[str, Any]:  # Any: JSON
    """The page of a server that says how it is configured. Errors: OSError, ValueError, InvalidSettings."""
    context = client_context(ca_file, "FORGE_NATS_CA_FILE")

    def read() -> bytes:
        handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context)]
        # A proxy, on whatever machine, cannot reach our loopback addresses.
        handlers += [urllib.request.ProxyHandler({})] if is_loopback(urlsplit(url).hostname or "") else []
        opener = urllib.request.build_opener(*handlers)
        with opener.open(f"{url}/varz", timeout=TIMEOUT_SECONDS) as response:
            body: bytes = response.read()
            return body

    found: dict[str, Any] = json.loads(await asyncio.to_thread(read))
    return found
