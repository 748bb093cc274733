"""Whatever lies on the bus, real jobs come to their end, no service stops, and nothing is set aside twice or unseen."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest
from garbage import Garbage, garbage
from live_stack import LiveStack, Seen

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import MessageParked
from dreamforge.contracts.log.envelope import unseal
from dreamforge.projector.maintenance.verify import verify
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import ApiError, Bus, ack
from dreamforge.runtime.log.follow import Follower, last_sequence
from dreamforge.runtime.testing import eventually

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]
MESSAGES = int(os.environ.get("FORGE_TEST_FUZZ_MESSAGES", "600"))
SEED = int(os.environ.get("FORGE_TEST_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
# One after the other would be one message a round trip; the server sees them come from several hands at once.
HANDS = 4


class Storm:
    """Publishes garbage, and remembers what the log took and under which place."""

    def __init__(self, bus: Bus, seed: int) -> None:
        self.bus = bus
        self.real: list[str] = []
        self.taken: dict[int, Garbage] = {}
        self.refused: Counter[str] = Counter()
        self._made = garbage(random.Random(seed), self.real)

    async def blow(self, messages: int) -> None:
        """Publish so many, a few at a time."""
        left = iter(range(messages))
        await asyncio.gather(*(self._hand(left) for _ in range(HANDS)))

    async def _hand(self, left: Iterator[int]) -> None:
        for _ in left:
            made = next(self._made)
            if made.subject.startswith("forge.deliver."):  # no stream: where a runner's consumer delivers
                await self.bus.publish(made.subject, made.data, made.headers)
                continue
            try:
                stored = ack(await self.bus.ask(made.subject, made.data, made.headers))
            except ApiError as error:
                self.refused[str(error)] += 1
                continue
            if made.subject.startswith("forge.jobs."):
                self.taken[int(stored["seq"])] = made


async def parked_in(bus: Bus) -> Counter[tuple[str, int]]:
    """How often each message of a stream was set aside; every one must say why."""
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
    storm = Storm(bus, SEED)
    storm.real += [await stack.submit(seed=number) for number in range(4)]
    for job_id in tuple(storm.real):
        await stack.finished(job_id)

    blowing = asyncio.create_task(storm.blow(MESSAGES))
    during: list[str] = []
    watching: list[asyncio.Task[list[Seen]]] = []
    while not blowing.done():
        job_id = await stack.submit(seed=len(during), images=2, steps=10)
        during.append(job_id)
        storm.real.append(job_id)
        watching.append(asyncio.create_task(stack.watch(job_id)))
        await asyncio.wait({blowing}, timeout=0.25)
    await blowing
    after = [await stack.submit(seed=number) for number in range(4)]

    jobs = [await stack.finished(job_id) for job_id in (*storm.real, *after)]
    assert {str(job["status"]) for job in jobs} == {"succeeded"}, jobs
    for job_id, task in zip(during, watching, strict=True):
        seen = await asyncio.wait_for(task, 30)
        assert seen[-1].event == "succeeded", (job_id, seen)
    for job_id in storm.real:  # streams of the past are readable too, whatever was laid beside their facts
        told = await asyncio.wait_for(stack.watch(job_id), 30)
        assert (told[0].event, told[-1].event) == ("requested", "succeeded"), (job_id, told)

    await eventually(stack.ready, 30, interval_seconds=0.2)
    assert not stack.ended()
    await eventually(lambda: folded(stack, bus), 30, interval_seconds=0.2)
    parked = await parked_in(bus)
    unreadable = [place for place, made in storm.taken.items() if not made.readable]
    wrong = {place: parked["JOBS", place] for place in unreadable if parked["JOBS", place] != 1}
    assert not wrong, {place: (times, storm.taken[place].subject) for place, times in wrong.items()}
    assert max(parked.values()) == 1
    print(f"{len(storm.taken)} in JOBS, {len(unreadable)} unreadable; refused by the broker: {dict(storm.refused)}")
    verified = await verify(stack.settings)
    assert verified.equal, verified.first_difference
    await bus.close()
