"""Two installations on one NATS server: each has its own log, leases and subjects, and neither sees the other's."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dreamforge.contracts.errors import VersionConflict
from dreamforge.contracts.log.envelope import Envelope
from dreamforge.contracts.log.streams import BUCKETS, STREAMS
from dreamforge.contracts.log.subjects import assignments_to, job_filter, key_of
from dreamforge.runtime.log import direct_get, leader_get
from dreamforge.runtime.log.bus import Bus, connect
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.group_commit import Append, GroupCommit
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.names import Names
from dreamforge.runtime.log.streams import ensure_streams


@pytest.fixture
async def two(nats_url: str) -> AsyncIterator[tuple[Bus, Bus]]:
    """The same server: one installation without prefix, one with."""
    buses = [await connect(nats_url, "plain"), await connect(nats_url, "prefixed", "acme")]
    for bus in buses:
        await ensure_streams(bus)
        await ensure_streams(bus)  # what is there is recognized as it is
    yield buses[0], buses[1]
    for bus in buses:
        await bus.close()


async def test_both_have_streams_of_their_own(two: tuple[Bus, Bus]) -> None:
    plain, prefixed = two
    for bus in two:
        assert (await bus.request("$JS.API.STREAM.INFO.JOBS", None))["config"]["subjects"] == ["forge.jobs.>"]
    names = set((await plain.request("$JS.API.STREAM.NAMES", {}))["streams"])
    assert {spec.name for spec in STREAMS} | {f"acme_{spec.name}" for spec in STREAMS} <= names
    assert {f"KV_acme_{bucket.name}" for bucket in BUCKETS} <= names
    assert (await stream_place(plain, "JOBS")).log_id != (await stream_place(prefixed, "JOBS")).log_id


def append(text: bytes, expected: int = 0) -> Append:
    return Append((Envelope("forge.jobs.J.0.requested", {"ce-id": "e"}, text),), job_filter("J"), expected)


async def test_the_same_job_is_in_both_and_each_reads_its_own(two: tuple[Bus, Bus]) -> None:
    commits = [GroupCommit(bus) for bus in two]
    for commit, text in zip(commits, (b"plain", b"prefixed"), strict=True):
        assert await commit.append(append(text)) == 1
        with pytest.raises(VersionConflict):
            await commit.append(append(text))
    for bus, text in zip(two, (b"plain", b"prefixed"), strict=True):
        wanted = LogMessage("forge.jobs.J.0.requested", {"ce-id": "e"}, text, 1)
        assert await direct_get.last_of_each(bus, "JOBS", job_filter("J")) == [wanted]
        assert await direct_get.last(bus, "JOBS", wanted.subject) == wanted
        assert await direct_get.one(bus, "JOBS", 1) == await leader_get.one(bus, "JOBS", 1) == wanted
        assert await leader_get.version(bus, "JOBS", job_filter("J")) == 1
        async for batch in Follower(bus, "JOBS", filters=("forge.jobs.*.*.requested",)).batches():
            assert [(each.subject, each.data) for each in batch.messages] == [(wanted.subject, text)]
            break


async def test_leases_are_apart(two: tuple[Bus, Bus]) -> None:
    plain, prefixed = two
    key = key_of("runners", "gpu-1")
    await plain.js.publish(key, b"plain")
    assert await direct_get.last(prefixed, "KV_runners", key) is None
    await prefixed.js.publish(key, b"prefixed")
    for bus, text in ((plain, b"plain"), (prefixed, b"prefixed")):
        follower = Follower(bus, "KV_runners", latest_only=True)
        async with asyncio.timeout(10):
            batch = await anext(follower.batches())
        assert [(each.subject, each.data) for each in batch.messages] == [(key, text)]


@pytest.mark.parametrize(
    ("subject", "there"),
    [
        ("forge.jobs.JOBS.0.requested", "acme_forge.jobs.JOBS.0.requested"),
        (assignments_to("JOBS"), "acme_forge.jobs.*.*.assigned.JOBS"),
        ("$KV.runners.JOBS", "$KV.acme_runners.JOBS"),
        ("$JS.API.STREAM.INFO.KV_leaders", "$JS.API.STREAM.INFO.KV_acme_leaders"),
        ("$JS.API.DIRECT.GET.JOBS.forge.models.JOBS.x", "$JS.API.DIRECT.GET.acme_JOBS.acme_forge.models.JOBS.x"),
        (
            "$JS.API.DIRECT.GET.KV_runners.$KV.runners.forge",
            "$JS.API.DIRECT.GET.KV_acme_runners.$KV.acme_runners.forge",
        ),
        ("$JS.EVENT.ADVISORY.X.JOBS.*", "$JS.EVENT.ADVISORY.X.acme_JOBS.*"),
        ("$JS.API.STREAM.NAMES", "$JS.API.STREAM.NAMES"),
        ("$JS.ACK.JOBS.runner-x.1.2.3.4.5", "$JS.ACK.JOBS.runner-x.1.2.3.4.5"),
        ("_INBOX.forge.1", "_INBOX.forge.1"),
        ("orders.forge.JOBS", "orders.forge.JOBS"),
    ],
)
def test_only_our_names_change_and_come_back(subject: str, there: str) -> None:
    names = Names("acme")
    assert names.on_server(subject) == there
    assert names.here(there) == subject
    assert Names("").on_server(subject) == subject
