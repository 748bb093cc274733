"""Whatever is published on the bus, real jobs finish, no service exits, and each unreadable message is parked once."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from system_testkit.api_client import StreamedEvent
from system_testkit.live_stack import LiveStack
from system_testkit.random_messages import RandomMessage, random_messages

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.installation_events import MessageParked
from dreamforge.contracts.log.envelope import unseal
from dreamforge.projector.maintenance.verify import verify
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import ApiError, Bus, ack
from dreamforge.runtime.log.follow import Follower, last_sequence
from dreamforge.runtime.testing import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]
MESSAGES = int(os.environ.get("FORGE_TEST_FUZZ_MESSAGES", "600"))
SEED = int(os.environ.get("FORGE_TEST_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
# One publisher would be limited to one message a round trip.
PUBLISHERS = 4


class RandomPublisher:
    """Publishes random messages, and remembers which ones the log stored, by sequence."""

    def __init__(self, bus: Bus, seed: int) -> None:
        self.bus = bus
        self.real: list[str] = []
        self.stored: dict[int, RandomMessage] = {}
        self.refused: Counter[str] = Counter()
        self._made = random_messages(random.Random(seed), self.real)

    async def publish(self, messages: int) -> None:
        """Publish so many, a few at a time."""
        left = iter(range(messages))
        await asyncio.gather(*(self._publish_some(left) for _ in range(PUBLISHERS)))

    async def _publish_some(self, left: Iterator[int]) -> None:
        for _ in left:
            made = next(self._made)
            if made.subject.startswith("forge.deliver."):  # no stream: where a runner's consumer delivers
                await self.bus.publish(made.subject, made.data, made.headers)
                continue
            try:
                acknowledged = ack(await self.bus.ask(made.subject, made.data, made.headers))
            except ApiError as error:
                self.refused[str(error)] += 1
                continue
            if made.subject.startswith("forge.jobs."):
                self.stored[int(acknowledged["seq"])] = made


async def parked_in(bus: Bus) -> Counter[tuple[str, int]]:
    """How often each message of a stream was parked; each must have a reason."""
    found: Counter[tuple[str, int]] = Counter()
    async for batch in Follower(bus, "PARKED").batches():
        for message in batch.messages:
            try:
                event = unseal(message.subject, message.headers, message.data, sequence=message.sequence).event
            except MalformedEvent:
                continue
            if isinstance(event, MessageParked):
                assert event.reason
                found[event.stream, event.sequence] += 1
        if batch.pending == 0:
            return found
    raise AssertionError("following ended")


async def folded(stack: LiveStack, bus: Bus) -> bool:
    """Whether the read tables have passed everything in the log."""
    sequence = await last_sequence(bus, "JOBS")
    answer = await stack.client.get("/v1/jobs", params={"min_sequence": sequence, "limit": 1})
    return bool(answer.status_code == 200)


async def test_nothing_on_the_bus_stops_anything(stack: LiveStack) -> None:
    print(f"FORGE_TEST_FUZZ_SEED={SEED} FORGE_TEST_FUZZ_MESSAGES={MESSAGES}")
    bus = await bus_module.connect(stack.settings.nats_url, "fuzz")
    publisher = RandomPublisher(bus, SEED)
    publisher.real += [await stack.submit(seed=number) for number in range(4)]
    for job_id in tuple(publisher.real):
        await stack.finished(job_id)

    publishing = asyncio.create_task(publisher.publish(MESSAGES))
    during: list[str] = []
    reading: list[asyncio.Task[list[StreamedEvent]]] = []
    while not publishing.done():
        job_id = await stack.submit(seed=len(during), images=2, steps=10)
        during.append(job_id)
        publisher.real.append(job_id)
        reading.append(asyncio.create_task(stack.read_events(job_id)))
        await asyncio.wait({publishing}, timeout=0.25)
    await publishing
    after = [await stack.submit(seed=number) for number in range(4)]

    jobs = [await stack.finished(job_id) for job_id in (*publisher.real, *after)]
    assert {str(job["status"]) for job in jobs} == {"succeeded"}, jobs
    for job_id, task in zip(during, reading, strict=True):
        seen = await asyncio.wait_for(task, 30)
        assert seen[-1].event == "succeeded", (job_id, seen)
    for job_id in publisher.real:  # finished streams stay readable, whatever was published on their subjects
        events = await asyncio.wait_for(stack.read_events(job_id), 30)
        assert (events[0].event, events[-1].event) == ("requested", "succeeded"), (job_id, events)

    await eventually(stack.ready, 30, interval_seconds=0.2)
    assert not stack.exited()
    await eventually(lambda: folded(stack, bus), 30, interval_seconds=0.2)
    parked = await parked_in(bus)
    unreadable = [place for place, made in publisher.stored.items() if not made.readable]
    wrong = {place: parked["JOBS", place] for place in unreadable if parked["JOBS", place] != 1}
    assert not wrong, {place: (times, publisher.stored[place].subject) for place, times in wrong.items()}
    assert max(parked.values()) == 1
    print(f"{len(publisher.stored)} in JOBS, {len(unreadable)} unreadable; refused: {dict(publisher.refused)}")
    verified = await verify(stack.settings)
    assert verified.equal, verified.first_difference
    await bus.close()
