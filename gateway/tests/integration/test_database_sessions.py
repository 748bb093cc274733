"""Replies are the same whatever database, schema and zone; what cannot serve ends the process with a reason."""

import asyncio

import httpx
import psycopg
import pytest
from psycopg import sql
from simulated_system import ready, running, settings_of

from dreamforge import migrations
from dreamforge.contracts.errors import DatabaseUnfit
from dreamforge.gateway.http.server import listen
from dreamforge.gateway.main import answer
from dreamforge.runtime import clock, ids
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.pooler import pooler


async def test_a_database_of_another_zone_and_schema_gives_the_same_replies(
    forge_env: dict[str, str], empty_database_url: str
) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        name = sql.Identifier(admin.info.dbname)
        admin.execute("CREATE SCHEMA forge_s")
        for setting in ("datestyle = 'SQL, DMY'", "timezone = 'Asia/Kolkata'", "default_transaction_read_only = 'on'"):
            admin.execute(sql.SQL("ALTER DATABASE {} SET ").format(name) + sql.SQL(setting))
    url = f"{empty_database_url}?options=-csearch_path%3Dforge_s"
    migrations.upgrade(url)
    job_id = ids.new_id()
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        tables = admin.execute("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'jobs'").fetchall()
        assert tables == [("forge_s",)]
        admin.execute(
            "INSERT INTO jobs (job_id, version, tenant, status, priority, model_id, preset, request, attempt,"
            " cancel_requested, requested_at) VALUES (%s, 1, 'default', 'queued', 5, 'm', 'small', %s, 0, false, %s)",
            (job_id, REQUEST, clock.now()),
        )
        admin.execute(
            "INSERT INTO steps (job_id, sequence, attempt, image_index, images, step, steps, elapsed_seconds,"
            " eta_seconds, at) VALUES (%s, 1, 1, 0, 1, 1, 4, 0, 0, %s)",
            (job_id, clock.now()),
        )
    settings = settings_of(forge_env | {"FORGE_DATABASE_URL": url})
    async with running(settings) as (base, _), httpx.AsyncClient(base_url=base, timeout=20) as client:
        await ready(client)
        reply = await client.get("/v1/jobs")
        assert reply.status_code == 200, reply.text
        (job,) = reply.json()["jobs"]
        assert (job["requested_at"][-1], job["step"]["at"][-1]) == ("Z", "Z")


async def test_a_pooler_in_transaction_mode_ends_the_process_with_the_reason(
    forge_env: dict[str, str], database_url: str
) -> None:
    async with pooler(database_url, by_transaction=True) as pooled:
        settings = settings_of(forge_env | {"FORGE_DATABASE_URL": pooled})
        listener = listen("127.0.0.1", 0)
        life = Lifetime(asyncio.Event())
        with pytest.raises(DatabaseUnfit, match="pool_mode = session"):
            await asyncio.wait_for(life.run(lambda lifetime: answer(settings, lifetime, listener)), 20)


async def test_tables_that_move_without_a_notification_are_not_ready(
    forge_env: dict[str, str], database_url: str
) -> None:
    settings = settings_of(forge_env)
    async with running(settings) as (base, _), httpx.AsyncClient(base_url=base, timeout=20) as client:
        await ready(client)
        with psycopg.connect(database_url, autocommit=True) as writer:
            writer.execute("INSERT INTO checkpoints (stream, sequence, at) VALUES ('JOBS', 9, now())")

        async def not_ready() -> str:
            reply = await client.get("/readyz")
            return str(reply.json()["checks"]["postgres"]) if reply.status_code == 503 else ""

        assert await eventually(not_ready) == (
            "postgres is not available: the tables are at 9, and no notification of the projection came after 0"
        )


REQUEST = (
    '{"model_id": "m", "preset": "small", "prompt": "a red circle", "negative_prompt": "", "width_px": 64,'
    ' "height_px": 64, "steps": 4, "guidance_scale": 2.0, "seed": 7, "images": 1}'
)
