"""Two installations share one NATS server, by a prefix, and one database, by a schema: each has its own tables."""

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from pydantic import SecretStr

from dreamforge.projector.maintenance.rebuild import rebuild
from dreamforge.projector.maintenance.status import status
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime.log.bus import connect
from dreamforge.runtime.log.direct_get import last
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.streams import declare_streams

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]
Folded = Callable[..., Awaitable[None]]


async def test_each_projector_writes_the_tables_of_its_own_log(
    settings: ProjectorSettings, empty_database_url: str, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    theirs = settings.model_copy(update={"nats_prefix": "acme", "database_url": SecretStr(empty_database_url)})

    async def their_jobs() -> list[Any]:
        async with await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as connection:
            try:
                return await (await connection.execute("SELECT job_id FROM jobs")).fetchall()
            except psycopg.errors.UndefinedTable:
                return []

    await story.request("ours")
    bus = await connect(settings.nats_url, "test", "acme")
    await ensure_streams(bus)
    async with projecting(settings), projecting(theirs):
        await bus.js.publish("forge.jobs.X.0.requested", b"?")
        story.store = EventStore(bus, "/test")
        await story.request("theirs")
        assert await eventually(their_jobs, 30) == [("theirs",)]
        await folded(1)
        assert await rows("SELECT job_id FROM jobs") == [{"job_id": "ours"}]
        parked = await eventually(
            lambda: last(bus, "PARKED", "forge.parked.projector"), until=lambda found: found is not None
        )
        assert parked is not None
        assert b"forge.jobs.X.0.requested" in parked.data
        assert (await verify(theirs)).equal
        places = {each.stream: each.last_sequence for each in (await status(theirs)).streams}
        assert places["JOBS"] == 2
    await bus.close()


async def test_two_schemas_of_one_database_have_writers_and_notifications_of_their_own(
    settings: ProjectorSettings, database_url: str, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute("CREATE SCHEMA acme")
        await listener.execute("LISTEN forge_checkpoint_acme")
        url = f"{database_url}{'&' if '?' in database_url else '?'}options=-csearch_path%3Dacme"
        theirs = settings.model_copy(update={"nats_prefix": "acme", "database_url": SecretStr(url)})
        await story.request("ours")
        await declare_streams(settings.nats_url, "acme")
        async with projecting(settings), projecting(theirs):
            await folded(1)
            await eventually(lambda: rows("SELECT 1 AS there WHERE to_regclass('acme.checkpoints') IS NOT NULL"), 30)
            bus = await connect(settings.nats_url, "test", "acme")
            await ensure_streams(bus)
            story.store = EventStore(bus, "/test")
            for name in ("theirs-1", "theirs-2"):
                await story.request(name)
            await eventually(lambda: rows("SELECT FROM acme.checkpoints WHERE stream = 'JOBS' AND sequence = 2"), 30)
            assert [each["job_id"] for each in await rows("SELECT job_id FROM acme.jobs")] == ["theirs-1", "theirs-2"]
            assert await rows("SELECT job_id FROM public.jobs") == [{"job_id": "ours"}]
            assert (await rebuild(theirs)).events == 2
            for each in (settings, theirs):
                found = await eventually(lambda: status(each), until=lambda found: found.writing == 1)  # noqa: B023
                assert found.standing_by == 0
            await bus.close()
        notices = [notice.payload async for notice in listener.notifies(timeout=0.1)]
    assert "JOBS 2" in notices
