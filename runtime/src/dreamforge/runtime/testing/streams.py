"""Isolation on a NATS server that tests share: stream names are fixed, so a test starts and ends with none."""

import os

import nats
import pytest

from dreamforge.runtime.log.bus import connect
from dreamforge.runtime.log.streams import ensure_streams


async def refuse_foreign_streams(url: str) -> None:
    """Errors: pytest.UsageError when the server already holds streams: it may be a real log."""
    if os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1") != "1":
        raise pytest.UsageError("tests on one external NATS server must run in one process (no -n)")
    connection = await nats.connect(url, connect_timeout=5)
    try:
        names = [stream.config.name for stream in await connection.jetstream().streams_info()]
    finally:
        await connection.close()
    if names:
        raise pytest.UsageError(
            f"the NATS server holds streams ({names}): tests would delete them, so name an empty one"
        )


async def declare_streams(url: str, prefix: str = "") -> None:
    """Our streams, as an administrator makes them."""
    bus = await connect(url, "test", prefix)
    try:
        await ensure_streams(bus)
    finally:
        await bus.close()


async def delete_streams(url: str) -> None:
    """Every stream and bucket, after a test made them."""
    connection = await nats.connect(url, connect_timeout=5)
    try:
        manager = connection.jetstream()
        for stream in await manager.streams_info():
            await manager.delete_stream(str(stream.config.name))
    finally:
        await connection.close()
