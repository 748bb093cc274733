"""Batches that are folded while the one before is written: what happens when that one is not committed as it was."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.parking import park_nothing
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.writing.folds import JobsFold
from dreamforge.projector.writing.refold import refold
from dreamforge.projector.writing.session import OF_ADVISORY_LOCK, WRITER_LOCK, Session
from dreamforge.projector.writing.stream_projection import StreamProjection
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Batch, Follower
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.testing import eventually

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]
Folded = Callable[..., Awaitable[None]]
WRITER = "SELECT pid FROM pg_locks WHERE granted AND " + OF_ADVISORY_LOCK.replace("%s", str(WRITER_LOCK))
WAITING = f"SELECT FROM pg_locks WHERE NOT granted AND pid IN ({WRITER})"
BATCH = 10


@pytest.fixture
def settings(settings: ProjectorSettings) -> ProjectorSettings:
    """In batches so small that some dozen events are several full ones."""
    return settings.model_copy(update={"projector_batch_messages": BATCH})


@pytest.fixture
async def last(settings: ProjectorSettings, story: Any, folded: Folded, projecting: Any) -> int:
    """The last sequence of a log of which the tables have the first event, and their next batch refuses one."""
    first = await story.request("first")
    async with projecting(settings):
        await folded(first)
    await story.start("first")
    for number in range(4):
        await story.request(f"job-{number}", prompt="a \0 cat" if number == 2 else "a cat")
        await story.start(f"job-{number}")
    for number in (0, 1, 3):
        await story.finish(f"job-{number}")
    for number in range(BATCH):
        sequence: int = await story.request(f"later-{number}")
    return sequence


def batches(outcome: str) -> float:
    return REGISTRY.get_sample_value("forge_projection_folded_ahead_total", {"outcome": outcome}) or 0.0


async def equal(settings: ProjectorSettings) -> bool:
    return (await verify(settings)).equal


@asynccontextmanager
async def from_memory(settings: ProjectorSettings, bus: Bus, last: int) -> AsyncIterator[StreamProjection]:
    """A projection that gets the whole log at once, so that each batch but the last one is whole."""
    messages: list[LogMessage] = []
    async with aclosing(Follower(bus, "JOBS").batches()) as read:
        async for batch in read:
            messages += batch.messages
            if batch.pending == 0:
                break

    async def batches() -> AsyncGenerator[Batch]:
        yield Batch(messages[1:], 0)

    async with Session.open(settings.database_url.get_secret_value(), name="test") as session:
        await session.prepare()
        yield StreamProjection(
            session, JobsFold(), SimpleNamespace(batches=batches), park_nothing, BATCH,  # type: ignore[arg-type]
            until=last, sequence=1, ahead=True,
        )  # fmt: skip


async def test_a_batch_that_is_refused_in_part_is_no_base_of_the_next_one(
    settings: ProjectorSettings, bus: Bus, last: int, rows: Rows
) -> None:
    used, discarded = batches("used"), batches("discarded")
    async with from_memory(settings, bus, last) as projection:
        await projection.run()
    assert await equal(settings)
    # The first batch is halved until its bad event is alone; each part that ends it has the next batch after it.
    assert (batches("used") - used, batches("discarded") - discarded) == (2, 4)
    found = {row["job_id"]: row["status"] for row in await rows("SELECT job_id, status FROM jobs")}
    assert {found.get(f"job-{number}") for number in (0, 1, 3)} == {"succeeded"}
    assert "job-2" not in found
    assert len(found) == 1 + 3 + BATCH


async def test_an_error_of_a_fold_ahead_is_left_to_the_fold_in_its_turn(
    settings: ProjectorSettings, bus: Bus, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    async def broken(self: JobsFold, changes: Any, jobs: Any, entries: Any) -> Any:
        tried.append(len(entries))
        raise RuntimeError("broken")

    monkeypatch.setattr(JobsFold, "fold_after", broken)
    async with from_memory(settings, bus, last) as projection:
        await projection.run()
    assert await equal(settings)
    assert tried


async def test_a_batch_that_was_folded_before_one_of_its_jobs_was_folded_again_is_folded_again_too(
    settings: ProjectorSettings, bus: Bus, last: int, rows: Rows
) -> None:
    async with from_memory(settings, bus, last) as projection:

        async def park(*_: Any, **__: Any) -> None:  # between the fold and the writing of a batch with a refused event
            projection.park = park_nothing
            await refold(bus, projection, "first")

        projection.park = park
        await rows("UPDATE jobs SET preset = 'broken' RETURNING 1")
        await projection.run()
    assert await equal(settings)


TAKE_BACK = (
    "DELETE FROM events", "DELETE FROM jobs", "UPDATE checkpoints SET sequence = 0 WHERE stream = 'JOBS'"
)  # fmt: skip


@pytest.mark.parametrize("statements", [(f"SELECT pg_terminate_backend(pid) FROM ({WRITER}) AS writer",), TAKE_BACK])
async def test_a_writer_that_is_deposed_while_the_next_batch_is_folded_starts_again_from_the_tables(
    settings: ProjectorSettings, last: int, rows: Rows, folded: Folded, projecting: Any, database_url: str,
    statements: tuple[str, ...],
) -> None:  # fmt: skip
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM checkpoints WHERE stream = 'JOBS' FOR UPDATE")
        async with projecting(settings):
            await eventually(lambda: rows(WAITING))
            for statement in statements:
                await other.execute(statement.encode())
            await other.commit()
            await folded(last)
            assert await equal(settings)
    assert len(await rows("SELECT FROM jobs")) == 1 + 3 + BATCH
