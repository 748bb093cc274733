"""The folder that the previous release has left: its log is read, its tables are migrated, its pictures are there."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from system_testkit.previous_release import fill_tables, unpack

from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.owner import ReleaseJob
from dreamforge.projector.main import SERVICE
from dreamforge.projector.maintenance.status import status
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import clock
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log.bus import connect
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.service import shell
from dreamforge.runtime.storage.objects import ObjectStore, sha256_of
from dreamforge.runtime.testing import eventually

STARTED_SECONDS = 30.0


async def test_the_tables_of_the_previous_release_are_migrated_and_are_the_fold_of_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "forge"
    before = {job["job_id"]: job for job in unpack(folder)}
    async with EmbeddedStack(folder, fsync=False, runner_ids=("local",)) as servers:
        await fill_tables(folder, servers.postgres)
        named = {name.removeprefix("FORGE_").lower(): value for name, value in servers.settings_env().items()}
        options: dict[str, Any] = named | {"nats_allow_unsynced": True}
        settings = ProjectorSettings(_env_file=None, **options)
        bus, stop = await connect(settings.nats_url, "test"), asyncio.Event()
        projector = asyncio.create_task(shell.serve(SERVICE, settings, stop))
        try:
            await eventually(lambda: status(settings), STARTED_SECONDS, until=lambda found: found.writing == 1)
            store, objects = EventStore(bus, "/dreamforge/test"), ObjectStore(settings)
            loaded = {job_id: (await store.load(job_id)).state for job_id in before}
            assert {job_id: str(state.status) for job_id, state in loaded.items()} == {
                job_id: job["status"] for job_id, job in before.items()
            }
            (waiting,) = [job_id for job_id, state in loaded.items() if state.status is Status.QUEUED]
            version = (await store.execute(waiting, ReleaseJob(clock.now()))).version
            await eventually(lambda: status(settings), until=lambda found: found.streams[0].checkpoint >= version)
            verified = await verify(settings)
            assert verified.equal, verified.first_difference
            async with await psycopg.AsyncConnection.connect(servers.postgres.url, row_factory=dict_row) as reader:
                shown = await (
                    await reader.execute("SELECT object_key, sha256 FROM artifacts WHERE visible")
                ).fetchall()
            named_before = {each["sha256"] for job in before.values() for each in job["artifacts"]}
            assert named_before <= {row["sha256"] for row in shown}
            for row in shown:
                assert sha256_of(await objects.get(row["object_key"])) == row["sha256"]
        finally:
            stop.set()
            await projector
            await bus.close()
