"""A broker that may lose events is refused with advice; if that is accepted in the settings, a warning is logged."""

import asyncio
from pathlib import Path

import pytest
from loguru import logger

from dreamforge.contracts.errors import BrokerUnfit
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log.durability import require_durable
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.testing.streams import declare_streams

SILENT = "http://127.0.0.1:1"  # nothing listens there


def settings(server: NatsServer, monitor_url: str = "", *, allow: bool = False) -> CommonSettings:
    return CommonSettings(_env_file=None, nats_url=server.url, nats_monitor_url=monitor_url, nats_allow_unsynced=allow)


async def test_a_broker_that_fsyncs_is_accepted(nats_server: NatsServer) -> None:
    await declare_streams(nats_server.url)
    bus = await open_log(settings(nats_server, nats_server.http_url), "test")
    assert bus.connected
    await bus.close()


async def test_a_proxy_is_not_asked_about_a_broker_of_this_machine(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    await declare_streams(nats_server.url)
    bus = await open_log(settings(nats_server, nats_server.http_url), "test")
    assert bus.connected
    await bus.close()


async def test_a_broker_that_does_not_fsync_is_refused(tmp_path: Path) -> None:
    async with NatsServer(tmp_path, fsync=False) as server:
        with pytest.raises(BrokerUnfit, match="sync_interval: always"):
            await open_log(settings(server, server.http_url), "test")


async def test_a_broker_that_cannot_be_checked_is_refused_unless_allowed(nats_server: NatsServer) -> None:
    with pytest.raises(BrokerUnfit, match="FORGE_NATS_MONITOR_URL"):
        await open_log(settings(nats_server), "test")
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}")
    await declare_streams(nats_server.url)
    bus = await open_log(settings(nats_server, allow=True), "test")
    logger.remove(sink)
    assert any("may lose jobs" in line for line in lines)
    await bus.close()


async def test_one_silent_server_of_three_keeps_no_service_from_starting(nats_server: NatsServer) -> None:
    await declare_streams(nats_server.url)
    monitors = f"{SILENT},{nats_server.http_url},{nats_server.http_url}"
    bus = await open_log(settings(nats_server, monitors), "test")
    assert bus.connected
    await bus.close()


async def test_most_servers_must_show_that_they_fsync(nats_server: NatsServer) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await require_durable(settings(nats_server, f"{SILENT},{nats_server.http_url}"))
