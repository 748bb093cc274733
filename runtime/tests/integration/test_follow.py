"""A follower sees every message once and in order, whatever happens to the server."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

from dreamforge.contracts.log.streams import JOBS
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.direct_get import after, last_of_each
from dreamforge.runtime.log.follow import Follower, last_sequence
from dreamforge.runtime.testing import eventually


async def publish(bus: Bus, first: int, count: int, job: str = "J") -> None:
    for number in range(first, first + count - 1):
        await bus.nc.publish(f"forge.steps.{job}", str(number).encode())
    await bus.js.publish(f"forge.steps.{job}", str(first + count - 1).encode())


async def read(follower: Follower, count: int) -> list[int]:
    found: list[int] = []
    async for batch in follower.batches():
        found += [int(message.data) for message in batch.messages]
        if len(found) >= count:
            break
    return found


async def test_everything_once_and_in_order_across_many_pulls(bus: Bus) -> None:
    await publish(bus, 0, 5_000)
    assert await read(Follower(bus, "STEPS"), 5_000) == list(range(5_000))
    assert await last_sequence(bus, "STEPS") == 5_000


async def test_it_starts_after_the_given_sequence(bus: Bus) -> None:
    await publish(bus, 0, 10)
    assert await read(Follower(bus, "STEPS", after_sequence=7), 3) == [7, 8, 9]


async def test_an_empty_stream_is_caught_up_at_once(bus: Bus) -> None:
    async for batch in Follower(bus, "STEPS").batches():
        assert (batch.messages, batch.pending) == ([], 0)
        break


async def test_the_last_batch_of_a_history_says_that_nothing_is_pending(bus: Bus) -> None:
    await publish(bus, 0, 2_500)
    seen = 0
    async for batch in Follower(bus, "STEPS").batches():
        seen += len(batch.messages)
        assert batch.pending == 2_500 - seen
        if batch.pending == 0:
            break
    assert seen == 2_500


async def test_it_learns_that_it_has_caught_up_while_messages_are_removed(bus: Bus) -> None:
    """The server counts a message that is removed while it is about to be delivered: 1 of 12 followers met one here."""

    async def caught_up(number: int) -> None:
        subject = f"forge.steps.J{number}"
        published = [(await bus.js.publish(subject, b"")).seq for _ in range(7)]
        removed = asyncio.create_task(bus.js.delete_msg("STEPS", published[number % 7]))
        async for batch in Follower(bus, "STEPS", (subject,)).batches():
            if not batch.pending:
                break
        await removed

    async with asyncio.timeout(20):
        for _ in range(3):
            await asyncio.gather(*(caught_up(number) for number in range(60)))


async def test_new_only_knows_its_sequence_before_the_first_message(bus: Bus) -> None:
    await publish(bus, 0, 10)
    follower = Follower(bus, "STEPS", new_only=True)
    async for _ in follower.batches():
        break
    assert follower.after_sequence == 10  # where a session that is lost now would be taken up


async def test_new_only_skips_older_messages(bus: Bus) -> None:
    await publish(bus, 0, 10)
    follower = Follower(bus, "STEPS", new_only=True)
    batches = follower.batches()
    assert (await anext(batches)).messages == []
    await publish(bus, 10, 1)
    assert [message.data for message in (await anext(batches)).messages] == [b"10"]


async def test_no_gap_and_no_repeat_when_the_server_is_killed(bus: Bus, nats_server: NatsServer) -> None:
    follower = Follower(bus, "STEPS")
    reader = asyncio.create_task(read(follower, 3_000))
    await publish(bus, 0, 1_000)
    for first in (1_000, 2_000):
        await nats_server.kill()
        await nats_server.restart()
        fresh = await bus_module.connect(nats_server.url, "publisher")
        known = await last_sequence(fresh, "STEPS")
        await publish(fresh, known, first + 1_000 - known)
        await fresh.close()
    found = await asyncio.wait_for(reader, 30)
    assert found == list(range(len(found)))


async def test_a_stream_that_lost_its_end_is_followed_from_where_it_ends_now(bus: Bus) -> None:
    await publish(bus, 0, 10)
    follower = Follower(bus, "STEPS", after_sequence=500)
    batches = follower.batches()
    assert (await anext(batches)).messages == []
    await publish(bus, 10, 1)
    assert [int(message.data) for message in (await anext(batches)).messages] == [10]


async def test_direct_get_reads_one_subject_past_a_sequence(bus: Bus) -> None:
    await publish(bus, 0, 5, job="A")
    await publish(bus, 5, 5, job="B")
    assert [int(stored.data) for stored in await after(bus, "STEPS", "forge.steps.A", 2)] == [2, 3, 4]
    assert [int(stored.data) for stored in await after(bus, "STEPS", "forge.steps.B", 0)] == [5, 6, 7, 8, 9]
    assert await after(bus, "STEPS", "forge.steps.C", 0) == []
    assert [int(stored.data) for stored in await last_of_each(bus, "STEPS", "forge.steps.*")] == [4, 9]


async def test_a_name_that_was_given_back_is_taken_from_no_other_follower(bus: Bus) -> None:
    bus = replace(bus, user="gateway")  # its followers share a few names
    first, second = Follower(bus, JOBS.name), Follower(bus, JOBS.name)
    async with aclosing(first.batches()) as one, aclosing(second.batches()) as other:
        await anext(one)
        name = first._consumer_name
        await first._give_back_consumer()
        await eventually(lambda: _names_of_consumers(bus), until=lambda names: name not in names)
        await anext(other)
        assert second._consumer_name == name
        await first._create_consumer()
        assert first._consumer_name != name
        await bus.request(f"$JS.API.CONSUMER.INFO.{JOBS.name}.{name}", None)


async def _names_of_consumers(bus: Bus) -> list[str]:
    """The server removes a consumer some time after it was asked to, beside later requests."""
    found: list[str] = (await bus.request(f"$JS.API.CONSUMER.NAMES.{JOBS.name}", None))["consumers"]
    return found
