"""How full the log's stores are, as metrics: every stream, every server, and the disk of the state folder.

Read from nats-server's monitoring pages, so that no user of the bus needs a permission for it.
"""

import asyncio
import json
import shutil
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loguru import logger
from prometheus_client import Gauge

from dreamforge.runtime.log.monitoring import page_of
from dreamforge.runtime.log.names import PLAIN_STREAMS, Names
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.tls.client_context import client_context

STREAM_BYTES = Gauge("forge_stream_bytes", "What a stream holds, on one server", ["stream"])
STREAM_LIMIT_BYTES = Gauge(
    "forge_stream_limit_bytes", "From here on a stream refuses; none for streams that drop their oldest", ["stream"]
)
STORE_BYTES = Gauge("forge_nats_store_bytes", "What a NATS server has stored in files", ["server"])
STORE_LIMIT_BYTES = Gauge("forge_nats_store_limit_bytes", "What it may store: from here on it refuses", ["server"])
DISK_FREE_BYTES = Gauge("forge_disk_free_bytes", "Free room on the disk of a folder, for its user", ["folder"])
DISK_BYTES = Gauge("forge_disk_bytes", "Size of the disk of a folder", ["folder"])
# Faster than any disk of a fleet fills up by a tenth.
OBSERVE_SECONDS = 30.0
PAGE = "/jsz?accounts=true&streams=true&config=true"


@dataclass(frozen=True, slots=True)
class StoreFill:
    """One server's stores. Limits are 0 where there is none."""

    used_bytes: int
    limit_bytes: int
    #: Bytes and limit of our streams of which it has a copy.
    streams: Mapping[str, tuple[int, int]]


def fill_of(page: Mapping[str, Any], names: Names) -> StoreFill:  # Any: JSON
    """What a server's /jsz says, with the names of an installation; streams of others are left out.

    >>> jobs = {"name": "JOBS", "state": {"bytes": 90}, "config": {"max_bytes": 100, "discard": "new"}}
    >>> page = {"storage": 95, "config": {"max_storage": 1000}, "account_details": [{"stream_detail": [jobs]}]}
    >>> fill_of(page, Names(""))
    StoreFill(used_bytes=95, limit_bytes=1000, streams={'JOBS': (90, 100)})
    """
    ours = {names.stream(name): name for name in PLAIN_STREAMS}
    accounts = page.get("account_details") or ()
    found = [stream for account in accounts for stream in account.get("stream_detail") or () if stream["name"] in ours]
    return StoreFill(
        used_bytes=int(page.get("storage", 0)),
        limit_bytes=max(0, int(page.get("config", {}).get("max_storage", 0))),
        streams={ours[each["name"]]: (int(each["state"]["bytes"]), _refuses_at(each["config"])) for each in found},
    )


def _refuses_at(config: Mapping[str, Any]) -> int:  # Any: JSON
    return max(0, int(config.get("max_bytes", 0))) if config.get("discard") == "new" else 0


def observe_disk(folder: Path) -> None:
    """Measure the disk of a folder whenever the metrics are read; a folder that is not there has none."""
    if folder.is_dir():
        DISK_FREE_BYTES.labels(str(folder)).set_function(lambda: disk_of(folder)[0])
        DISK_BYTES.labels(str(folder)).set_function(lambda: disk_of(folder)[1])


def disk_of(folder: Path) -> tuple[float, float]:
    """Free bytes and size of its disk; not a number once the folder is gone, for an error here takes all metrics away.

    >>> disk_of(Path("/nothing/there"))
    (nan, nan)
    """
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return nan, nan
    return usage.free, usage.total


async def keep_observing(settings: CommonSettings) -> None:
    """Look again and again until cancelled; a server that does not answer keeps its last values."""
    names, urls = Names(settings.nats_prefix), settings.nats_monitor_urls
    context = client_context(settings.nats_ca_file, "FORGE_NATS_CA_FILE")
    observe_disk(settings.state_dir.absolute())
    while True:
        await observe(urls, names, context)
        await asyncio.sleep(OBSERVE_SECONDS)


async def observe(urls: Iterable[str], names: Names, context: ssl.SSLContext | None = None) -> None:
    """Set the metrics of every server once; `context` as of `page_of`."""
    for url in urls:
        try:
            page = json.loads(await asyncio.to_thread(page_of, url + PAGE, context))
        except (OSError, ValueError) as error:
            logger.debug("how full {} is was not read: {}", url, error)
            continue
        _show(urlsplit(url).netloc, fill_of(page, names))


def _show(server: str, fill: StoreFill) -> None:
    STORE_BYTES.labels(server).set(fill.used_bytes)
    if fill.limit_bytes:
        STORE_LIMIT_BYTES.labels(server).set(fill.limit_bytes)
    for stream, (used_bytes, limit_bytes) in fill.streams.items():
        STREAM_BYTES.labels(stream).set(used_bytes)
        if limit_bytes:
            STREAM_LIMIT_BYTES.labels(stream).set(limit_bytes)
