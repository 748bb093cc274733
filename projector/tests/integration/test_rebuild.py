"""The read tables can be thrown away, rebuilt while serving, and proved equal to the log on a live system."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from dreamforge.contracts.errors import DependencyAway
from dreamforge.migrations.drift import drift
from dreamforge.projector.maintenance.progress import MaintenanceProgress
from dreamforge.projector.maintenance.rebuild import SCHEMA, rebuild
from dreamforge.projector.maintenance.shadow_tables import MaintenanceRunning, shadow_tables
from dreamforge.projector.maintenance.status import status
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.testing import eventually

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]
Folded = Callable[..., Awaitable[None]]


async def some_history(story: Any, jobs: int = 5) -> int:
    for number in range(jobs):
        await story.request(f"J{number}")
        await story.start(f"J{number}")
        if number % 2:
            await story.finish(f"J{number}")
    return int(await story.request("open"))


async def test_a_rebuild_restores_destroyed_rows_and_verify_proves_it(
    settings: ProjectorSettings, bus: Bus, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    async with projecting(settings):
        await folded(await some_history(story))
        await bus.js.publish("forge.jobs.X.0.requested", b"?")
        await folded(await story.request("last"))
        before = await rows("SELECT * FROM jobs ORDER BY job_id")
        assert (await verify(settings)).equal

        await rows("UPDATE jobs SET status = 'succeeded', priority = 9 WHERE job_id = 'J2' RETURNING 1")
        await rows("DELETE FROM artifacts RETURNING 1")
        broken = await verify(settings)
        assert not broken.equal
        assert broken.first_difference is not None
        assert broken.first_difference.table == "jobs"
        assert broken.first_difference.key == {"job_id": "J2"}
        assert broken.first_difference.columns() == ["status", "priority"]
        assert [proof.table for proof in broken.tables if not proof.equal] == ["jobs", "artifacts"]

        stages: list[MaintenanceProgress] = []
        rebuilt = await rebuild(settings, stages.append)
        assert await rows("SELECT * FROM jobs ORDER BY job_id") == before
        assert (await verify(settings)).equal
        assert rebuilt.events == stages[-1].sequence == stages[-1].target
        assert [stage.stage for stage in stages if stage.stage != "folding"][-1] == "done"
        await folded(await story.finish("J2"))
        assert (await verify(settings)).equal
    assert await rows("SELECT FROM pg_namespace WHERE nspname LIKE 'forge%%'") == []


async def test_a_projector_drops_its_cache_after_a_rebuild(
    settings: ProjectorSettings, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    async with projecting(settings):
        await folded(await story.request("J"))
        await rows("UPDATE jobs SET tenant = 'wrong' RETURNING 1")
    async with projecting(settings):
        await folded(await story.start("J"))  # now the wrong tenant is in the projector's memory
        await rebuild(settings)
        await folded(await story.finish("J"))
        assert [row["tenant"] for row in await rows("SELECT tenant FROM jobs")] == ["t"]


async def test_readers_and_writers_continue_during_rebuilds(
    settings: ProjectorSettings, story: Any, rows: Rows, folded: Folded, projecting: Any, database_url: str
) -> None:
    over = asyncio.Event()
    seen: list[int] = []

    async def read_on() -> None:
        """One connection with prepared statements, like a gateway's."""
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            while not over.is_set():
                query = b"SELECT (SELECT count(*) FROM jobs), (SELECT sequence FROM checkpoints WHERE stream = 'JOBS')"
                row = await (await connection.execute(query, prepare=True)).fetchone()
                assert row is not None
                assert row[0] == row[1]  # one event a job here: rows and checkpoint always agree
                seen.append(row[0])

    async def write_on() -> int:
        number = 0
        while not over.is_set():
            number += 1
            await story.request(f"J{number}")
        return number

    async with projecting(settings):
        await folded(await story.request("J0"))
        reading, writing = asyncio.create_task(read_on()), asyncio.create_task(write_on())
        for _ in range(3):
            await rebuild(settings)
            assert (await verify(settings)).equal
        over.set()
        await reading
        await folded(await writing + 1)
        assert (await verify(settings)).equal
    assert seen == sorted(seen)


async def test_the_schema_is_the_declared_one_after_a_rebuild(
    settings: ProjectorSettings, bus: Bus, database_url: str, rows: Rows
) -> None:
    await rebuild(settings)

    assert await asyncio.to_thread(drift, database_url) == []


async def test_a_rebuild_keeps_the_privileges_of_other_roles(settings: ProjectorSettings, bus: Bus, rows: Rows) -> None:
    granted = "SELECT has_table_privilege('pg_monitor', 'jobs', 'SELECT') AS may"
    async with await psycopg.AsyncConnection.connect(settings.database_url.get_secret_value()) as connection:
        await connection.execute("GRANT SELECT ON jobs TO pg_monitor")
    await rebuild(settings)

    assert await rows(granted) == [{"may": True}]


async def test_one_maintenance_at_a_time(settings: ProjectorSettings, bus: Bus) -> None:
    async with shadow_tables(settings, bus, SCHEMA):
        with pytest.raises(MaintenanceRunning):
            await rebuild(settings)
        assert (await status(settings)).maintenance


async def test_an_interrupted_rebuild_leaves_the_tables_unchanged(
    settings: ProjectorSettings, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    async with projecting(settings):
        await folded(await some_history(story))
        before = await rows("SELECT * FROM jobs ORDER BY 1")
        begun = asyncio.Event()
        cut_off = asyncio.create_task(rebuild(settings, lambda _: begun.set()))
        await begun.wait()
        await rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s", "%forge_next"
        )
        with suppress(psycopg.Error):
            await cut_off
        assert await rows("SELECT * FROM jobs ORDER BY 1") == before
        await rebuild(settings)
        assert await rows("SELECT * FROM jobs ORDER BY 1") == before


async def test_the_status_shows_the_lag_and_the_writer(
    settings: ProjectorSettings, story: Any, folded: Folded, projecting: Any
) -> None:
    last = await story.request("A")
    behind = await status(settings)
    assert (behind.writing, behind.streams[0].lag_messages) == (0, last)
    async with projecting(settings), projecting(settings):
        await folded(last)
        now = await eventually(lambda: status(settings), until=lambda found: found.standing_by == 1)
        assert (now.writing, now.streams[0].stream, now.streams[0].lag_messages) == (1, "JOBS", 0)
        assert now.streams[0].moved_at is not None


async def test_a_rebuild_migrates_an_empty_database(
    nats_url: str, empty_database_url: str, bus: Bus, story: Any
) -> None:
    settings = ProjectorSettings(
        nats_url=nats_url, nats_allow_unsynced=True, database_url=SecretStr(empty_database_url)
    )
    last = await story.request("A")
    assert (await status(settings)).streams[0].checkpoint == 0
    await rebuild(settings)
    assert (await status(settings)).streams[0].checkpoint == last
    assert (await verify(settings)).equal


async def test_unavailable_nats_is_reported_and_not_waited_for(settings: ProjectorSettings) -> None:
    with pytest.raises(DependencyAway, match="nothing listens"):
        await status(settings.model_copy(update={"nats_url": f"nats://127.0.0.1:{free_port()}"}))
