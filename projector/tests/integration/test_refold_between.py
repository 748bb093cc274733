"""A job that is folded again between the fold of a batch and its writing, which waits for the log to park an event."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from dreamforge.contracts.events import JobStarted
from dreamforge.contracts.log.envelope import seal
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.parking import park_nothing
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.writing.folds import JobsFold
from dreamforge.projector.writing.refold import refold
from dreamforge.projector.writing.session import Session
from dreamforge.projector.writing.stream_projection import StreamProjection
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Batch, Follower
from dreamforge.runtime.log.message import LogMessage

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]


async def test_a_batch_that_was_folded_before_one_of_its_jobs_was_folded_again_is_folded_again_too(
    settings: ProjectorSettings, bus: Bus, rows: Rows, story: Any, folded: Callable[..., Awaitable[None]],
    projecting: Any,
) -> None:  # fmt: skip
    first = await story.request("J")
    async with projecting(settings):
        await folded(first)
    await rows("UPDATE jobs SET preset = 'broken' RETURNING 1")
    await story.start("J")
    forged = seal(
        JobStarted(at=clock.now(), attempt=9, runner_id="r1", instance_id="i"),
        entity_id="J", event_id="forged", source="/test",
    )  # fmt: skip
    last = (await bus.js.publish(forged.subject, forged.data, headers=forged.headers)).seq
    messages = await read_to(bus, last)
    parked: list[int] = []

    async def park(stream: str, message: LogMessage, problem: str | None) -> None:
        parked.append(message.sequence)
        await park_nothing(stream, message, problem)
        if len(parked) == 1:
            await refold(bus, projection, "J")

    async with Session.open(settings.database_url.get_secret_value(), name="test") as session:
        await session.prepare()
        follower: Any = SimpleNamespace(batches=lambda: at_once(messages[first:]))
        projection = StreamProjection(session, JobsFold(), follower, park, 1000, until=last, sequence=first)
        await projection.run()
    assert parked == [last, last]
    assert (await verify(settings)).equal


async def read_to(bus: Bus, last: int) -> list[LogMessage]:
    found: list[LogMessage] = []
    async with aclosing(Follower(bus, "JOBS").batches()) as batches:
        async for batch in batches:
            found += batch.messages
            if found and found[-1].sequence >= last:
                break
    return found


async def at_once(messages: list[LogMessage]) -> AsyncGenerator[Batch]:
    yield Batch(messages, 0)
