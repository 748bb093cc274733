"""What nats-server stages is spread over the disk, after a restart too, and batches are stored as before."""

import asyncio
from pathlib import Path

import pytest
from some_jobs import request

from dreamforge.runtime import ids
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.embedded.batch_folders import BATCHES, is_spread, spread, spread_batches
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.event_store import NEW_JOB, EventStore
from dreamforge.runtime.log.group_commit import BATCH_FROM_MESSAGES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One whose file system knows the attribute."""
    try:
        spread(tmp_path)
    except OSError as error:
        pytest.skip(f"this file system has no such attribute: {error}")
    return tmp_path


async def test_folders_of_batches_are_spread_and_take_batches_after_every_start(folder: Path) -> None:
    async with NatsServer(folder, fsync=False, streams=True, prefix="acme") as server:
        for _ in range(2):
            assert is_spread(_folder_of_batches(folder, "acme_JOBS"))
            await _write_a_batch(server.url)
            await server.kill()
            await server.restart()


async def _write_a_batch(url: str) -> None:
    bus = await bus_module.connect(url, "test", "acme")
    store = EventStore(bus, "/dreamforge/test")
    jobs = [ids.new_id() for _ in range(BATCH_FROM_MESSAGES)]
    outcomes = await asyncio.gather(*(store.execute(job, request(job), known=NEW_JOB) for job in jobs))
    assert len({outcome.version for outcome in outcomes}) == len(jobs)
    await bus.close()


def _folder_of_batches(folder: Path, stream: str) -> Path:
    (found,) = folder.glob(f"jetstream/**/streams/{stream}/{BATCHES}")
    return found


def test_where_nothing_is_as_expected_nothing_is_done(tmp_path: Path) -> None:
    spread_batches(tmp_path / "none", ["JOBS"])
    (tmp_path / "jetstream/$G/streams").mkdir(parents=True)
    (tmp_path / "jetstream/$G/streams/JOBS").touch()
    spread_batches(tmp_path, ["JOBS", "MODELS"])
    assert [each.name for each in (tmp_path / "jetstream/$G/streams").iterdir()] == ["JOBS"]
