"""A log knows which one it is and whose; what is not ours is left alone, and a replaced log is not read on."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from dreamforge.contracts.errors import LogReplaced, NotOurs
from dreamforge.contracts.log.identity import LOG_ID_KEY, OWNER_KEY
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import Bus, connect
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.log.streams import ensure_streams


async def config_of(bus: Bus, stream: str) -> dict[str, Any]:
    info = await bus.request(f"$JS.API.STREAM.INFO.{stream}", None)
    config: dict[str, Any] = info["config"]
    return config


@pytest.fixture
async def raw(nats_url: str) -> Any:
    """A connection to a server without streams."""
    bus = await bus_module.connect(nats_url, "test")
    yield bus
    await bus.close()


async def test_an_identity_is_given_once(raw: Bus) -> None:
    await asyncio.gather(*(ensure_streams(raw) for _ in range(3)))
    first = await stream_place(raw, "JOBS")
    other = await stream_place(raw, "MODELS")
    config = await config_of(raw, "JOBS")
    await raw.request("$JS.API.STREAM.UPDATE.JOBS", config | {"description": "changed by hand"})
    await ensure_streams(raw)
    assert (await config_of(raw, "JOBS"))["description"] != "changed by hand"
    assert (await stream_place(raw, "JOBS")).log_id == first.log_id != other.log_id


async def test_a_stream_of_an_older_release_is_adopted_and_every_process_gives_it_the_same_identity(raw: Bus) -> None:
    await ensure_streams(raw)
    for stream in ("JOBS", "ADVISORIES", "KV_runners"):
        config = {key: value for key, value in (await config_of(raw, stream)).items() if key != "metadata"}
        await raw.request(f"$JS.API.STREAM.DELETE.{stream}", None)
        await raw.request(f"$JS.API.STREAM.CREATE.{stream}", config)
        assert LOG_ID_KEY not in (await config_of(raw, stream)).get("metadata", {})
    await asyncio.gather(*(ensure_streams(raw) for _ in range(3)))
    adopted = (await config_of(raw, "JOBS"))["metadata"]
    assert adopted[OWNER_KEY] == "dreamforge"
    await ensure_streams(raw)
    assert (await stream_place(raw, "JOBS")).log_id == adopted[LOG_ID_KEY]


FOREIGN: dict[str, dict[str, object]] = {
    "JOBS": {"subjects": ["payroll.jobs.>"], "description": "payroll", "max_age": 3_600_000_000_000},
    "KV_runners": {"subjects": ["$KV.runners.>"], "description": "marathon", "max_msgs_per_subject": 5},
    "TIMERS": {"subjects": ["timers.>"]},
}


@pytest.mark.parametrize("stream", FOREIGN)
async def test_a_stream_of_something_else_is_refused_and_left_as_it_is(raw: Bus, stream: str) -> None:
    await raw.request(f"$JS.API.STREAM.CREATE.{stream}", {"name": stream, "storage": "file", **FOREIGN[stream]})
    before = await config_of(raw, stream)
    with pytest.raises(NotOurs) as refused:
        await ensure_streams(raw)
    assert f"stream {stream}" in str(refused.value)
    assert str(FOREIGN[stream]["subjects"][0]) in str(refused.value)  # type: ignore[index]
    assert await config_of(raw, stream) == before


async def test_a_stream_that_stores_our_subjects_is_named(raw: Bus) -> None:
    await raw.request("$JS.API.STREAM.CREATE.AUDIT", {"name": "AUDIT", "storage": "file", "subjects": ["forge.>"]})
    with pytest.raises(NotOurs, match="another stream stores forge"):
        await ensure_streams(raw)


async def test_the_advisories_of_an_older_release_are_to_be_upgraded_first(raw: Bus, nats_url: str) -> None:
    everything = {"name": "ADVISORIES", "storage": "file", "subjects": ["$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"]}
    await raw.request("$JS.API.STREAM.CREATE.ADVISORIES", everything)
    bus = await connect(nats_url, "test", "acme")
    with pytest.raises(NotOurs, match="an older release of Dream Forge there is upgraded first"):
        await ensure_streams(bus)
    await bus.close()


async def lose(server: NatsServer, put_back: Path | None = None) -> None:
    """The disk of the server is lost, or replaced by an older copy of it."""
    await server.kill()
    shutil.rmtree(server.folder / "jetstream")
    if put_back is not None:
        shutil.copytree(put_back, server.folder / "jetstream")
    await server.restart()


async def fill(url: str, count: int, text: bytes) -> None:
    bus = await connect(url, "writer")
    await ensure_streams(bus)
    for number in range(count):
        await bus.js.publish(f"forge.jobs.{number}.0.requested", text)
    await bus.close()


@pytest.mark.parametrize("restored", [False, True], ids=["made-anew", "restored-from-a-copy"])
async def test_a_replaced_log_is_not_read_on(nats_server: NatsServer, tmp_path: Path, restored: bool) -> None:
    await fill(nats_server.url, 2, b"old")
    copy = tmp_path / "copy"
    if restored:
        await nats_server.stop()
        shutil.copytree(nats_server.folder / "jetstream", copy)
        await nats_server.start()
    await fill(nats_server.url, 3, b"later")
    bus = await connect(nats_server.url, "reader")
    batches = Follower(bus, "JOBS").batches()
    read = 0
    while read < 5:
        read += len((await anext(batches)).messages)
    await lose(nats_server, copy if restored else None)
    await fill(nats_server.url, 9, b"new")
    with pytest.raises(LogReplaced, match="another message has the sequence 5" if restored else "it was log"):
        async with asyncio.timeout(20):
            await anext(batches)
    await bus.close()


async def test_steps_that_were_lost_with_their_stream_are_followed_on(nats_server: NatsServer) -> None:
    """Progress is no fact: see `Follower`."""
    await fill(nats_server.url, 0, b"")
    bus = await connect(nats_server.url, "reader")
    follower = Follower(bus, "STEPS", after_sequence=500)
    assert (await anext(follower.batches())).messages == []
    await bus.close()
