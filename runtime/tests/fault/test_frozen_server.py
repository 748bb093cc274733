"""A server that is frozen closes no connection: it is left for another one of the list."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log.bus import Bus, connect
from dreamforge.runtime.testing import eventually

# Two pings of two seconds, and what a busy machine needs for a new connection.
LEFT_SECONDS = 60.0


async def connected_port(bus: Bus) -> int | None:
    """None while there is no connection."""
    url = bus.nc.connected_url
    return url.port if bus.connected and url is not None else None


@pytest.mark.fault
async def test_a_frozen_server_is_left_for_another_one(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "a", fsync=False) as one, NatsServer(tmp_path / "b", fsync=False) as other:
        bus = await connect(f"{one.url},{other.url}", "test")
        first = await connected_port(bus)
        frozen, left = (one, other) if first == one.port else (other, one)
        reconnected = asyncio.Event()
        bus.on_reconnect.add(reconnected.set)
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(LEFT_SECONDS):
                await reconnected.wait()
            await eventually(lambda: connected_port(bus), LEFT_SECONDS)
            assert await connected_port(bus) == left.port
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
            await bus.close()
