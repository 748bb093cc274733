"""Streams are declared once, by anyone, any number of times, and are what `contracts.streams` says."""

import asyncio
from typing import cast

import pytest

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.log.streams import BUCKETS, FLEET, KEYS, MODELS, QUEUES, STREAMS
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import ApiError, Bus
from dreamforge.runtime.log.streams import bucket_config, ensure_streams, require_streams, stream_config


async def test_services_may_declare_streams_at_the_same_time(nats_url: str) -> None:
    buses = await asyncio.gather(*(bus_module.connect(nats_url, str(number)) for number in range(5)))
    await asyncio.gather(*(ensure_streams(bus) for bus in buses))
    configs = [*(stream_config(spec, replicas=1) for spec in STREAMS)]
    configs += [bucket_config(spec, replicas=1) for spec in BUCKETS]
    for wanted in configs:
        found = (await buses[0].request(f"$JS.API.STREAM.INFO.{wanted['name']}", None))["config"]
        assert {key: found.get(key, 0) for key in wanted} == wanted
    for bus in buses:
        await bus.close()


async def test_a_changed_declaration_is_applied_and_keeps_the_messages(nats_url: str) -> None:
    bus = await bus_module.connect(nats_url, "test")
    await ensure_streams(bus)
    config = (await bus.request("$JS.API.STREAM.INFO.STEPS", None))["config"]
    await bus.request("$JS.API.STREAM.UPDATE.STEPS", config | {"max_age": 700_000_000_000, "description": "old"})
    await bus.js.publish("forge.steps.J", b"1")
    await ensure_streams(bus)
    info = await bus.request("$JS.API.STREAM.INFO.STEPS", None)
    assert info["config"]["max_age"] == 86_400 * 1_000_000_000
    assert info["state"]["messages"] == 1
    await bus.close()


async def test_events_cannot_be_deleted_but_those_of_jobs(nats_url: str) -> None:
    """The projector removes the events of erased jobs; by the permissions of NATS no other service can."""
    bus = await bus_module.connect(nats_url, "test")
    await ensure_streams(bus)
    await bus.js.publish("forge.jobs.J.0.requested", b"{}")
    await bus.request("$JS.API.STREAM.MSG.DELETE.JOBS", {"seq": 1})
    for spec in (FLEET, MODELS, QUEUES, KEYS):
        with pytest.raises(ApiError, match="not permitted"):
            await bus.request(f"$JS.API.STREAM.MSG.DELETE.{spec.name}", {"seq": 1})
    await bus.close()


async def test_what_an_older_release_has_denied_for_ever_stays_denied(nats_url: str) -> None:
    bus = await bus_module.connect(nats_url, "test")
    await ensure_streams(bus)
    config = (await bus.request("$JS.API.STREAM.INFO.JOBS", None))["config"]
    await bus.request("$JS.API.STREAM.UPDATE.JOBS", config | {"deny_delete": True})
    await ensure_streams(bus)
    await bus.js.publish("forge.jobs.J.0.requested", b"{}")
    with pytest.raises(ApiError, match="not permitted"):
        await bus.request("$JS.API.STREAM.MSG.DELETE.JOBS", {"seq": 1})
    await bus.request("$JS.API.STREAM.PURGE.JOBS", {"filter": "forge.jobs.J.>"})
    await bus.close()


class LeaderlessBus:
    """A cluster that elects a leader right now."""

    async def request(self, subject: str, payload: object) -> dict[str, object]:
        raise ApiError(10008, "JetStream system temporarily unavailable", 503)


async def test_a_service_waits_for_a_cluster_without_a_leader() -> None:
    """It must not end as with wrong settings, after which no supervisor starts it again."""
    with pytest.raises(DependencyAway, match="temporarily unavailable"):
        await require_streams(cast(Bus, LeaderlessBus()))


def test_no_stream_of_a_cluster_is_offline_with_one_server() -> None:
    configs = [stream_config(spec, replicas=3) for spec in STREAMS]
    configs += [bucket_config(spec, replicas=3) for spec in BUCKETS]
    assert {config["num_replicas"] for config in configs} == {3}
    assert not any("persist_mode" in config for config in configs), "the server replicates no such stream"
