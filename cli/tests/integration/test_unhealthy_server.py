"""A server that runs and does not work is restarted, once its disk has room."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamforge.cli.stack import servers
from dreamforge.cli.stack.servers import supervise_server
from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log.bus import connect
from dreamforge.runtime.log.probe import LogProbe
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.testing import eventually

DISK_BYTES = 48 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; only an administrator can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a tmpfs here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_after_a_full_disk_the_log_works_again(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "HEALTH_SECONDS", 0.2)
    monkeypatch.setattr(servers, "ROOM_BYTES", 8 * 2**20)
    events: list[str] = []
    server = NatsServer(small_disk / "nats")
    async with server:
        bus = await connect(server.url, "test")
        await ensure_streams(bus)
        probe = LogProbe(bus, "test")
        await probe.check()
        supervision = asyncio.create_task(supervise_server(server, lambda _, text: events.append(text), lambda: None))
        ballast = small_disk / "ballast"
        try:
            fill(ballast)
            await eventually(lambda: refused(probe), 20)
            await eventually(lambda: any("waiting for room" in event for event in events), 20)
            pid = server.pid
            ballast.unlink()
            await eventually(lambda: events[-1:] == ["is running again"], 20)
            assert server.pid != pid
            await eventually(lambda: works(probe), 20)
        finally:
            supervision.cancel()
            await asyncio.gather(supervision, return_exceptions=True)
            await bus.close()


def fill(ballast: Path) -> None:
    """Take all room."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65_536)
        except OSError:
            return


async def works(probe: LogProbe) -> bool:
    try:
        await probe.check()
    except DependencyAway:
        return False
    return True


async def refused(probe: LogProbe) -> bool:
    return not await works(probe)
