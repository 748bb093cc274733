"""A rebuild is not held up by what Postgres does with the tables in the background."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dreamforge.migrations import upgrade
from dreamforge.projector.maintenance.rebuild import rebuild
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime.embedded import PostgresServer
from dreamforge.runtime.testing import eventually

#: One page in 0.1 s: it takes far longer than a rebuild may wait.
SLOWLY = (
    "autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,"
    " autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1"
)


@pytest.fixture
async def database_url(tmp_path: Path) -> AsyncIterator[str]:
    """A database of its own server, where autovacuum looks for work each second."""
    async with PostgresServer(tmp_path / "postgres", fsync=False) as server:
        with (server.data_folder / "postgresql.auto.conf").open("a") as configuration:
            configuration.write("autovacuum_naptime = '1s'\n")
        await server.restart()
        await asyncio.to_thread(upgrade, server.url)
        yield server.url


@asynccontextmanager
async def vacuuming(database_url: str) -> AsyncIterator[None]:
    """Autovacuum has begun with `events`."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(f"ALTER TABLE events SET ({SLOWLY})".encode())
        await connection.execute(
            "INSERT INTO events SELECT 1000000 + n, e.job_id, attempt, type, event_id, source, at, payload"
            " FROM events e, generate_series(1, 20000) n WHERE sequence = 1"
        )
        await connection.execute("DELETE FROM events WHERE sequence > 1000000")

        async def at_work() -> bool:
            query = b"SELECT FROM pg_locks WHERE relation = 'events'::regclass AND mode = 'ShareUpdateExclusiveLock'"
            return bool(await (await connection.execute(query)).fetchall())

        await eventually(at_work, timeout_seconds=30)
        yield


async def test_a_rebuild_does_not_wait_for_a_vacuum(
    settings: ProjectorSettings, story: Any, folded: Any, projecting: Any, database_url: str
) -> None:
    async with projecting(settings):
        await folded(await story.request("J"))
        async with vacuuming(database_url):
            rebuilt = await asyncio.wait_for(rebuild(settings), 10)
        assert rebuilt.held_seconds < 1, "writers do not wait for it either"
        assert (await verify(settings)).equal
