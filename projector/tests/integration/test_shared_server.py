"""Two installations share one NATS server, by a prefix: each projector writes the tables of its own log."""

from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from pydantic import SecretStr

from dreamforge.projector.maintenance.status import status
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime.log.bus import connect
from dreamforge.runtime.log.direct_get import last
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.testing import eventually

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
