"""Ready is what can be used: a log that stores, a bucket that keeps."""

import asyncio
import os
import signal

import pytest

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log import follow
from dreamforge.runtime.log import probe as probe_module
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.probe import LogProbe
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.storage.settings import ObjectStoreSettings
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.buckets import S3Settings


async def test_a_log_that_is_connected_and_stores_nothing_is_not_ready(bus: Bus) -> None:
    probe = LogProbe(bus, "test")
    await probe.check()
    config = (await bus.request("$JS.API.STREAM.INFO.PROBES", None))["config"]
    await bus.request("$JS.API.STREAM.UPDATE.PROBES", config | {"max_bytes": 1})
    with pytest.raises(DependencyAway, match="connected, but it stores nothing: maximum bytes exceeded"):
        await probe.check()
    await bus.request("$JS.API.STREAM.DELETE.PROBES", None)
    with pytest.raises(DependencyAway, match="connected, but it stores nothing"):
        await probe.check()
    assert bus.connected


async def test_a_stream_that_is_not_heard_is_not_ready_until_it_is_heard_again(
    bus: Bus, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a suspension: the server stands still, connections stay, and everything goes on by itself."""
    monkeypatch.setattr(follow, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(probe_module, "SILENT_SECONDS", 0.6)
    monkeypatch.setattr(bus_module, "REQUEST_TIMEOUT_SECONDS", 0.3)
    heard: list[bytes] = []

    async def read() -> None:
        async for batch in follow.Follower(bus, "STEPS").batches():
            heard.extend(message.data for message in batch.messages)

    reading = asyncio.create_task(read())
    probe = LogProbe(bus, "test")

    async def reason() -> str:
        try:
            await probe.check()
        except DependencyAway as error:
            return str(error)
        return ""

    await eventually(reason, until=lambda found: not found)
    os.kill(nats_server.pid, signal.SIGSTOP)
    await eventually(reason, until=lambda found: "stream STEPS was not heard" in found)
    os.kill(nats_server.pid, signal.SIGCONT)
    await eventually(reason, until=lambda found: not found)
    await bus.js.publish("forge.steps.J", b"after")
    await eventually(lambda: heard == [b"after"])
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await eventually(lambda: not bus.followers)


async def test_a_store_without_its_bucket_is_not_ready(s3_settings: S3Settings) -> None:
    named = {name.removeprefix("FORGE_").lower(): value for name, value in s3_settings.settings_env().items()}
    store = ObjectStore(ObjectStoreSettings(_env_file=None, **named))  # type: ignore[call-arg, arg-type]
    with pytest.raises(DependencyAway, match="bucket"):
        await store.check()
    await store.ensure_bucket()
    await store.check()
