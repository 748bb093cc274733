"""Connections are lost and processes killed; the tables stay correct and the fold continues without help."""

import asyncio
import json
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from dreamforge.contracts.errors import DatabaseUnfit
from dreamforge.projector.main import SERVICE
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.writing.session import OF_ADVISORY_LOCK, WRITER_LOCK
from dreamforge.runtime.embedded import NatsServer, PostgresServer
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.service import shell
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.pooler import pooler
from dreamforge.runtime.testing.streams import declare_streams

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]
Folded = Callable[..., Awaitable[None]]
SESSIONS = "SELECT pid FROM pg_locks WHERE " + OF_ADVISORY_LOCK.replace("%s", str(WRITER_LOCK))
WRITERS, WAITING = SESSIONS + " AND granted", SESSIONS + " AND NOT granted"


async def read(url: str, query: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def ready(settings: ProjectorSettings) -> dict[str, Any]:
    """What /readyz answers; {} while there is no answer."""

    def get() -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{settings.health_port}/readyz", timeout=5) as response:
                return json.loads(response.read())  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            return json.loads(error.read())  # type: ignore[no-any-return]
        except OSError:
            return {}

    return await asyncio.to_thread(get)


async def test_a_second_projector_waits_and_takes_over_when_the_first_is_killed(
    settings: ProjectorSettings, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    environment = {
        "FORGE_NATS_URL": settings.nats_url,
        "FORGE_NATS_ALLOW_UNSYNCED": "true",
        "FORGE_DATABASE_URL": settings.database_url.get_secret_value(),
    }
    first = await asyncio.create_subprocess_exec(sys.executable, "-m", "dreamforge.projector", env=environment)
    try:
        await eventually(lambda: rows(WRITERS), 30)
        (writer,) = await rows(WRITERS)
        async with projecting(settings):
            await eventually(lambda: rows(WAITING))
            await folded(await story.request("A"))
            assert await rows(WRITERS) == [writer]

            first.send_signal(signal.SIGKILL)
            await asyncio.wait_for(folded(await story.request("B")), 2)
            assert await rows(WRITERS) != [writer]
        assert len(await rows("SELECT * FROM events")) == 2
    finally:
        with suppress(ProcessLookupError):
            first.kill()
        await first.wait()


async def test_a_writer_whose_session_was_ended_starts_again_from_the_tables(
    settings: ProjectorSettings, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    async with projecting(settings):
        await folded(await story.request("A"))
        (writer,) = await rows(WRITERS)
        await rows("SELECT pg_terminate_backend(%s)", writer["pid"])
        await story.start("A")
        await folded(await story.finish("A"))

    assert [row["status"] for row in await rows("SELECT status FROM jobs")] == ["succeeded"]
    assert [row["sequence"] for row in await rows("SELECT sequence FROM events ORDER BY 1")] == [1, 2, 3, 4, 5, 6]


async def test_a_writer_that_finds_another_checkpoint_writes_nothing_and_starts_again(
    settings: ProjectorSettings, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    async with projecting(settings):
        await folded(await story.request("A"))
        await rows("DELETE FROM events RETURNING 1")
        await rows("DELETE FROM jobs RETURNING 1")
        await rows("UPDATE checkpoints SET sequence = 0 WHERE stream = 'JOBS' RETURNING 1")
        await folded(await story.request("B"))

    assert [row["job_id"] for row in await rows("SELECT job_id FROM jobs ORDER BY 1")] == ["A", "B"]


@pytest.fixture
async def own_postgres(tmp_path: Path) -> Any:
    async with PostgresServer(tmp_path / "postgres") as server:
        yield server


@pytest.mark.timeout(180)
async def test_postgres_killed_and_back(
    settings: ProjectorSettings, own_postgres: PostgresServer, bus: Bus, story: Any, projecting: Any
) -> None:
    update = {"database_url": SecretStr(own_postgres.url), "health_port": free_port()}
    settings = settings.model_copy(update=update)

    async def in_tables() -> list[Any]:
        with suppress(psycopg.Error):
            return await read(own_postgres.url, "SELECT job_id FROM jobs ORDER BY 1")
        return []

    async with projecting(settings):
        await story.request("A")
        await eventually(in_tables, 30)
        assert (await ready(settings))["ready"] is True

        await own_postgres.kill()
        await story.request("B")
        unavailable = await eventually(lambda: ready(settings), until=lambda answer: not answer.get("ready", True))
        assert unavailable["checks"]["nats"] == "ok"
        assert unavailable["checks"]["postgres"].startswith("postgres is not available")

        await own_postgres.restart()
        await eventually(in_tables, 30, until=lambda rows: rows == [("A",), ("B",)])
        assert (await ready(settings))["ready"] is True


async def test_unavailable_postgres_is_waited_for_at_the_start(
    settings: ProjectorSettings, tmp_path: Path, story: Any, projecting: Any
) -> None:
    async with PostgresServer(tmp_path / "postgres") as server:
        url = server.url
        await server.kill()
        settings = settings.model_copy(update={"database_url": SecretStr(url), "health_port": free_port()})
        await story.request("A")
        async with projecting(settings):
            await eventually(lambda: ready(settings), until=lambda answer: answer.get("ready") is False)
            await server.restart()
            await eventually(lambda: ready(settings), 30, until=lambda answer: answer.get("ready") is True)
            await eventually(lambda: read(url, "SELECT job_id FROM jobs"))


async def test_nats_killed_and_back(
    settings: ProjectorSettings, nats_server: NatsServer, story: Any, folded: Folded, projecting: Any
) -> None:
    settings = settings.model_copy(update={"health_port": free_port()})
    async with projecting(settings):
        await folded(await story.request("A"))
        await nats_server.kill()
        await eventually(lambda: ready(settings), until=lambda answer: answer["checks"]["nats"] == "nats is not available: not connected")  # noqa: E501  # fmt: skip
        await nats_server.restart()
        await eventually(lambda: ready(settings), until=lambda answer: answer["ready"])
        await folded(await story.request("B"))


async def test_tables_of_another_log_are_not_touched(
    settings: ProjectorSettings, story: Any, rows: Rows, projecting: Any
) -> None:
    settings = settings.model_copy(update={"health_port": free_port()})
    await rows("INSERT INTO checkpoints VALUES ('JOBS', 9, now()) RETURNING 1")
    await story.request("A")
    async with projecting(settings):
        answer = await eventually(
            lambda: ready(settings), until=lambda a: "another log" in a.get("checks", {}).get("log", "")
        )
        assert answer["ready"] is False
    assert await rows("SELECT * FROM jobs") == []


async def test_steps_whose_end_was_lost_with_the_broker_continue(
    settings: ProjectorSettings, bus: Bus, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    from dreamforge.contracts.events import StepProgressed
    from dreamforge.contracts.log.envelope import seal
    from dreamforge.runtime import clock

    await rows("INSERT INTO checkpoints VALUES ('STEPS', 9, now()) RETURNING 1")
    await rows("INSERT INTO steps VALUES ('J', 9, 1, 0, 1, 2, 4, 1, 1, now()) RETURNING 1")
    await story.request("J")
    await story.start("J")
    step = StepProgressed(
        at=clock.now(), attempt=1, image_index=0, images=1, step=3, steps=4, elapsed_seconds=1, eta_seconds=1
    )
    sealed = seal(step, entity_id="J", event_id="e", source="/test")
    async with projecting(settings):
        await eventually(lambda: rows("SELECT FROM checkpoints WHERE stream = 'STEPS' AND sequence = 0"))
        await eventually(lambda: rows("SELECT FROM attempts"))
        await bus.js.publish(sealed.subject, sealed.data, headers=sealed.headers)
        await folded(1, "STEPS")
    assert await rows("SELECT step, sequence FROM steps") == [{"step": 3, "sequence": 1}]


async def test_a_pooler_that_shares_sessions_is_refused_before_the_first_table(
    settings: ProjectorSettings, empty_database_url: str
) -> None:
    await declare_streams(settings.nats_url)
    async with pooler(empty_database_url, by_transaction=True) as pooled:
        behind = settings.model_copy(update={"database_url": SecretStr(pooled)})
        with pytest.raises(DatabaseUnfit, match="pool_mode = session"):
            await asyncio.wait_for(shell.serve(SERVICE, behind, asyncio.Event()), 20)
    async with await psycopg.AsyncConnection.connect(empty_database_url) as connection:
        found = await (await connection.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'jobs'")).fetchone()
    assert found == (0,)
