"""A rebuild by several processes: the rows are those of one, whatever crosses the borders of their ranges."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dreamforge.contracts.events import FailureReason, JobRequested
from dreamforge.contracts.jobs.decisions import FailAttempt
from dreamforge.contracts.jobs.erasure import EraseArtifact, EraseJob, RequestErasure
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.log.envelope import seal
from dreamforge.projector.maintenance import shadow_tables as shadow_tables_module
from dreamforge.projector.maintenance.log_range import LogRange
from dreamforge.projector.maintenance.progress import MaintenanceProgress
from dreamforge.projector.maintenance.range_process import RangeFailed
from dreamforge.projector.maintenance.range_worker import RangeTask
from dreamforge.projector.maintenance.rebuild import rebuild
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.testing import eventually

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]
Folded = Callable[..., Awaitable[None]]
WORKER = "dreamforge.projector.maintenance.range_worker"


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_tables_module, "RANGE_MESSAGES_MIN", 1)


async def crossing_history(bus: Bus, store: EventStore, story: Any) -> int:
    """Jobs of which every border of three ranges has some that are open, and some that ended and change later."""
    for number in range(4):
        await story.request(f"early-{number}")
        await story.start(f"early-{number}")
    at_once = RetryPolicy(max_attempts=3, base_seconds=0)
    failure = FailAttempt(clock.now(), 1, FailureReason.CHILD_CRASHED, True, "gone", at_once, "r1")
    await store.execute("early-0", failure)
    for number in range(6):
        await story.request(f"whole-{number}")
        await story.start(f"whole-{number}")
        await story.finish(f"whole-{number}")
    await story.start("early-0", attempt=2)
    await story.finish("early-0", attempt=2)
    await story.finish("early-1")
    await store.execute("whole-1", EraseArtifact(clock.now(), 1, 0))
    again = JobRequested(at=clock.now(), tenant="forger", request=story.REQUEST)
    forged = seal(again, entity_id="early-2", event_id=ids.new_id(), source="/forged")
    await bus.js.publish(forged.subject, forged.data, headers=forged.headers)
    await bus.js.publish("forge.jobs.X.0.requested", b"?")
    now = clock.now()
    await store.execute("whole-2", RequestErasure(now, now))
    await store.execute("whole-2", EraseJob(now))
    for number in range(4):
        await story.request(f"late-{number}")
    return int(await story.request("last"))


@pytest.mark.parametrize("left_max", [100_000, 0])
async def test_the_rows_are_those_of_one_process(
    settings: ProjectorSettings,
    bus: Bus,
    store: EventStore,
    story: Any,
    rows: Rows,
    folded: Folded,
    projecting: Any,
    monkeypatch: pytest.MonkeyPatch,
    left_max: int,
) -> None:
    monkeypatch.setattr(shadow_tables_module, "LEFT_MAX", left_max)
    several = settings.model_copy(update={"rebuild_processes": 3})
    one = settings.model_copy(update={"rebuild_processes": 1})
    async with projecting(settings):
        last = await crossing_history(bus, store, story)
        await folded(last)
        told: list[MaintenanceProgress] = []
        assert (await rebuild(several, told.append)).events == last
        assert (await verify(one)).first_difference is None
        assert [each["stream"] for each in await rows("SELECT stream FROM checkpoints ORDER BY stream")] == [
            "FLEET", "JOBS", "MODELS", "STEPS",
        ]  # fmt: skip
        shown = [each.sequence for each in told if each.stage == "folding"]
        assert shown == sorted(shown)
        assert shown[-1] == last


async def test_a_process_that_is_killed_ends_the_rebuild_and_changes_nothing(
    settings: ProjectorSettings, bus: Bus, store: EventStore, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    several = settings.model_copy(update={"rebuild_processes": 2})
    async with projecting(settings):
        await folded(await crossing_history(bus, store, story))
        before = await rows("SELECT * FROM jobs ORDER BY job_id")
        rebuilding = asyncio.create_task(rebuild(several))
        os.kill(await eventually(worker), signal.SIGKILL)
        with pytest.raises(RangeFailed, match="ended with status -9"):
            await rebuilding
        assert await rows("SELECT * FROM jobs ORDER BY job_id") == before
        assert (await verify(several)).equal


def worker() -> int:
    """The process that folds a range for this one, and for no other test."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status, command = (folder / "status").read_text(), (folder / "cmdline").read_text()
        except OSError:
            continue
        if f"PPid:\t{os.getpid()}\n" in status and WORKER in command:
            return int(folder.name)
    return 0


def test_a_task_comes_whole(settings: ProjectorSettings) -> None:
    task = RangeTask(settings, "forge_next", "log", "JOBS after 7, x", LogRange(8, 9), 20_000, 5)
    read = RangeTask.read(task.text())
    assert read.settings.database_url == settings.database_url
    assert (read.settings.nats_url, read.settings.retry) == (settings.nats_url, settings.retry)
    assert (read.range, read.checkpoint, read.left_max) == (task.range, task.checkpoint, task.left_max)
