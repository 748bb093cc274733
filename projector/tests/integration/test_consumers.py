"""An undeliverable message is parked within a second; a parked message can be retried or dropped."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext

from dreamforge.contracts.errors import BrokerUnfit
from dreamforge.contracts.installation_events import MessageParked, ParkedSettled
from dreamforge.contracts.log.envelope import Recorded, seal, unseal
from dreamforge.contracts.log.parking import Parked, unsettled
from dreamforge.projector.consumers import consume
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.replica import Replica, lagging_replica

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]
Folded = Callable[..., Awaitable[None]]


@pytest.fixture
def replica() -> Iterator[Replica]:
    with lagging_replica(of="projector") as replica:
        yield replica


async def records(bus: Bus) -> list[Recorded]:
    async for batch in Follower(bus, "PARKED").batches():
        return [unseal(m.subject, m.headers, m.data, sequence=m.sequence) for m in batch.messages]
    raise AssertionError("a follower always says something")


async def still_parked(bus: Bus) -> list[Parked]:
    return list(unsettled(await records(bus)).values())


async def settle(bus: Bus, sequence: int, action: str) -> None:
    event = ParkedSettled.model_validate({"at": clock.now(), "parked_sequence": sequence, "action": action})
    sealed = seal(event, entity_id="projector", event_id=f"s{sequence}{action}", source="/dreamforge/test")
    await bus.js.publish(sealed.subject, sealed.data, headers=sealed.headers)


async def impatient(bus: Bus, stream: str, name: str) -> JetStreamContext.PullSubscription:
    """A durable consumer that gives up after two deliveries."""
    config = {"durable_name": name, "ack_policy": "explicit", "max_deliver": 2, "ack_wait": 100_000_000}
    request = {"stream_name": stream, "config": config, "action": ""}
    await bus.request(f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}", request)
    return await bus.js.pull_subscribe_bind(consumer=name, stream=stream)


async def test_a_message_past_its_last_delivery_is_parked_within_a_second(
    settings: ProjectorSettings, bus: Bus, story: Any, projecting: Any
) -> None:
    sequence = await story.request("A")
    async with projecting(settings):
        consumer = await impatient(bus, "JOBS", "runner-r1")
        for _ in range(2):
            await (await consumer.fetch(1, timeout=5))[0].nak()
        given_up = clock.monotonic_seconds()
        with suppress(NatsTimeout):  # the server notices when it would have delivered it a third time
            await consumer.fetch(1, timeout=0.5)
        found = await eventually(lambda: still_parked(bus), 5, until=bool)
        assert clock.monotonic_seconds() - given_up < 1.5
        await consumer.unsubscribe()
    assert (found[0].event.stream, found[0].event.sequence, found[0].event.deliveries) == ("JOBS", sequence, 2)
    assert "runner-r1" in found[0].event.reason


async def test_what_others_give_up_is_theirs(
    settings: ProjectorSettings, bus: Bus, story: Any, folded: Folded, projecting: Any
) -> None:
    """An operator's consumer of our stream, and another application: 1,001 advisories, more than a consumer holds."""
    await bus.js.add_stream(name="ORDERS", subjects=["orders.>"])
    orders = await impatient(bus, "ORDERS", "runner-ship")
    for number in range(1001):
        await bus.publish(f"orders.{number}", b"a secret")
    sequence = await story.request("A")
    async with projecting(settings):
        await folded(sequence)
        for consumer, count in ((orders, 1001), (await impatient(bus, "JOBS", "billing"), 1)):
            while count:
                for message in await consumer.fetch(min(count, 200), timeout=5):
                    await message.term()
                    count -= 1
        await bus.js.delete_stream("ORDERS")
        await (await (await impatient(bus, "JOBS", "runner-r1")).fetch(1, timeout=5))[0].term()
        (found,) = await eventually(lambda: still_parked(bus), 5, until=bool)
    assert (found.event.stream, found.event.sequence) == ("JOBS", sequence)
    assert "runner-r1" in found.event.reason
    assert (await bus.js.stream_info("ADVISORIES")).state.messages == 2, "of JOBS only: billing's and runner-r1's"


@pytest.mark.parametrize(
    "data", [b"{}", b"\xff", b"[]", b'{"stream": "JOBS", "consumer": "runner-r1", "stream_seq": -1}']
)
async def test_an_unreadable_advisory_is_parked_and_the_next_one_is_read(
    settings: ProjectorSettings, bus: Bus, story: Any, projecting: Any, data: bytes
) -> None:
    sequence = await story.request("A")
    await bus.js.publish("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.JOBS.runner-r1", data)
    async with projecting(settings):
        await (await (await impatient(bus, "JOBS", "runner-r1")).fetch(1, timeout=5))[0].term()
        found = await eventually(lambda: still_parked(bus), 5, until=lambda parked: len(parked) == 2)
    assert [(parked.event.stream, parked.event.sequence) for parked in found] == [("ADVISORIES", 1), ("JOBS", sequence)]
    assert "no advisory of nats-server" in found[0].event.reason


async def test_a_message_that_breaks_its_handler_is_parked_once(bus: Bus) -> None:
    parked: list[tuple[str, int, str]] = []

    async def park(stream: str, message: LogMessage, reason: str, *, tries: int = 1) -> None:
        parked.append((stream, message.sequence, reason))

    handled: list[bytes] = []

    async def handle(message: Msg) -> None:
        if message.data == b"bad":
            raise RuntimeError("broken")
        handled.append(message.data)

    for data in (b"bad", b"good"):
        await bus.js.publish("forge.parked.test", data)
    consuming = asyncio.create_task(consume(bus, "PARKED", "test", handle, park))
    await eventually(lambda: bool(handled))
    consuming.cancel()
    assert (parked, handled) == ([("PARKED", 1, "it cannot be handled: broken")], [b"good"])


async def test_a_consumer_that_the_server_refuses_ends_the_process_with_the_reason(bus: Bus) -> None:
    config = {"durable_name": "mine", "ack_policy": "none"}
    request = {"stream_name": "PARKED", "config": config, "action": ""}
    await bus.request("$JS.API.CONSUMER.DURABLE.CREATE.PARKED.mine", request)
    with pytest.raises(BrokerUnfit, match="consumer mine of stream PARKED: ack policy can not be updated"):
        await asyncio.wait_for(consume(bus, "PARKED", "mine", None, None), 10)  # type: ignore[arg-type]


async def test_a_retry_folds_the_job_again_and_parks_what_still_fails(
    settings: ProjectorSettings, bus: Bus, story: Any, rows: Rows, folded: Folded, projecting: Any, database_url: str
) -> None:
    await story.request("A")
    await story.start("A")
    rogue = await bus.js.publish("forge.jobs.A.7.rogue", b"not ours")
    last = await story.finish("A")
    async with projecting(settings):
        await folded(last)
        before = await rows("SELECT * FROM jobs")
        (parked,) = await eventually(lambda: still_parked(bus), 5, until=bool)
        assert parked.event.sequence == rogue.seq
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("UPDATE jobs SET status = 'failed'")
            connection.execute("DELETE FROM artifacts")
        await settle(bus, parked.sequence, "retry")
        (again,) = await eventually(lambda: still_parked(bus), 5, until=lambda now: bool(now) and now[0] != parked)
        assert again.event.deliveries == 2
        assert await rows("SELECT * FROM jobs") == before
        assert len(await rows("SELECT * FROM artifacts WHERE visible")) == 2
        following = await story.request("B")
        await folded(following)


async def test_a_retry_folds_the_whole_job_though_a_lagging_replica_answers(
    replica: Replica, settings: ProjectorSettings, bus: Bus, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    await story.request("A")
    await bus.js.publish("forge.jobs.A.7.rogue", b"not ours")
    await story.start("A")
    async with projecting(settings):
        await folded(await story.finish("A"))
        before = await rows("SELECT * FROM jobs")
        (parked,) = await eventually(lambda: still_parked(bus), 5, until=bool)
        replica.ends_at = 2
        await settle(bus, parked.sequence, "retry")
        await eventually(lambda: still_parked(bus), 5, until=lambda now: bool(now) and now[0] != parked)
        assert await rows("SELECT * FROM jobs") == before


async def test_a_dropped_message_is_no_longer_parked(
    settings: ProjectorSettings, bus: Bus, story: Any, folded: Folded, projecting: Any
) -> None:
    await bus.js.publish("forge.jobs.A.7.rogue", b"not ours")
    async with projecting(settings):
        (parked,) = await eventually(lambda: still_parked(bus), 5, until=bool)
        await settle(bus, parked.sequence, "drop")
        await folded(await story.request("B"))
    assert await still_parked(bus) == []
    assert sum(isinstance(record.event, MessageParked) for record in await records(bus)) == 1
