"""An undeliverable message is parked within a second; a parked message can be retried or dropped."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from nats.errors import TimeoutError as NatsTimeout

from dreamforge.contracts.events import MessageParked, ParkedSettled
from dreamforge.contracts.log.envelope import Recorded, seal, unseal
from dreamforge.contracts.log.parking import Parked, unsettled
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
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


async def test_a_message_past_its_last_delivery_is_parked_within_a_second(
    settings: ProjectorSettings, bus: Bus, story: Any, projecting: Any
) -> None:
    sequence = await story.request("A")
    config = {"durable_name": "billing", "ack_policy": "explicit", "max_deliver": 2, "ack_wait": 100_000_000}
    await bus.request(
        "$JS.API.CONSUMER.DURABLE.CREATE.JOBS.billing", {"stream_name": "JOBS", "config": config, "action": ""}
    )
    async with projecting(settings):
        consumer = await bus.js.pull_subscribe_bind(consumer="billing", stream="JOBS")
        for _ in range(2):
            await (await consumer.fetch(1, timeout=5))[0].nak()
        given_up = clock.monotonic_seconds()
        with suppress(NatsTimeout):  # the server notices when it would have delivered it a third time
            await consumer.fetch(1, timeout=0.5)
        found = await eventually(lambda: still_parked(bus), 5, until=bool)
        assert clock.monotonic_seconds() - given_up < 1.5
        await consumer.unsubscribe()
    assert (found[0].event.stream, found[0].event.sequence, found[0].event.deliveries) == ("JOBS", sequence, 2)
    assert "billing" in found[0].event.reason


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
