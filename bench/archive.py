"""What archiving saves: memory of nats-server and size of its files, before and after, and what a rebuild then takes.

Usage: python -m bench.archive [--jobs 20000]

The log is filled without fsync; archiving runs with it off, too, so its rate is an upper bound. Memory is that of the
server's process, measured after a restart each time: a running one returns freed memory only by and by.
"""

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from bench.projection import EVENTS_A_JOB, fill
from pydantic import SecretStr

from dreamforge.migrations import upgrade
from dreamforge.projector.main import SERVICE
from dreamforge.projector.maintenance import archiver as archiver_module
from dreamforge.projector.maintenance.archiver import Archiver
from dreamforge.projector.maintenance.rebuild import rebuild
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime.embedded import NatsServer, PostgresServer
from dreamforge.runtime.embedded.s3_server import S3Server
from dreamforge.runtime.log import bus as nats
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.service import shell
from dreamforge.runtime.storage.bucket_owner import claim
from dreamforge.runtime.storage.job_archive import JobArchive
from dreamforge.runtime.storage.objects import ARCHIVE, ObjectStore
from dreamforge.runtime.storage.postgres import connect


@dataclass(frozen=True, slots=True)
class LogSize:
    """The log at one moment."""

    memory_bytes: int
    stream_bytes: int
    file_bytes: int
    messages: int
    subjects: int

    def __str__(self) -> str:
        memory, stored = self.memory_bytes / 2**20, self.stream_bytes / 2**20
        return (
            f"{self.messages:>8} messages, {self.subjects:>8} subjects, nats-server {memory:6.1f} MiB of memory, JOBS"
            f" {stored:6.1f} MiB, files {self.file_bytes / 2**20:6.1f} MiB"
        )


async def measured(server: NatsServer, bus: Bus) -> LogSize:
    """The size of the log in a server that has just started."""
    await server.stop()
    await server.start()
    async with httpx.AsyncClient() as client:
        memory = (await client.get(f"{server.http_url}/varz")).json()["mem"]
    state = (await bus.request("$JS.API.STREAM.INFO.JOBS", None))["state"]
    files = sum(path.stat().st_size for path in server.folder.rglob("*.blk"))
    return LogSize(memory, state["bytes"], files, state["messages"], state["num_subjects"])


async def archive_all(settings: ProjectorSettings, bus: Bus, objects: ObjectStore) -> float:
    """Archive every job; the seconds that it took."""
    archiver_module.READERS_SECONDS = 0.0
    store = EventStore(bus, "/dreamforge/bench", archive=JobArchive(objects))
    stop = asyncio.Event()
    idle = settings.model_copy(update={"archive_jobs_days": 0.0, "projector_erase_seconds": 1e6})
    projector = asyncio.create_task(shell.serve(SERVICE, idle, stop))  # the tables say which jobs are archived
    began = time.perf_counter()
    async with await connect(settings.database_url.get_secret_value(), name="bench") as connection:
        archiver = Archiver(settings, bus, store, objects, connection)
        while await archiver.run_pass():
            pass
    seconds = time.perf_counter() - began
    stop.set()
    await projector
    return seconds


async def main(jobs: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            NatsServer(folder / "nats", fsync=False) as log_server,
            PostgresServer(folder / "pg") as tables_server,
            S3Server(folder / "s3") as objects_server,
        ):
            bus = await nats.connect(log_server.url, "bench")
            await ensure_streams(bus)
            upgrade(tables_server.url)
            named = {key.removeprefix("FORGE_").lower(): value for key, value in objects_server.settings_env().items()}
            options: dict[str, Any] = named | {"database_url": SecretStr(tables_server.url), "archive_jobs_days": 1e-9}
            settings = ProjectorSettings(
                nats_url=log_server.url, nats_allow_unsynced=True, log_level="ERROR", **options
            )
            objects = ObjectStore(settings)
            await claim(objects, (await stream_place(bus, "JOBS")).log_id)
            await fill(bus, jobs * EVENTS_A_JOB)
            print(f"before                 {await measured(log_server, bus)}")
            before = await rebuild(settings)
            seconds = await archive_all(settings, bus, objects)
            print(f"after                  {await measured(log_server, bus)}")
            after = await rebuild(settings)
            stored = await objects.listed(ARCHIVE)
            size = sum(found.size_bytes for found in stored)
            print(
                f"archive                {len(stored)} objects, {size / 2**20:.1f} MiB, {size / jobs:.0f} bytes a job"
            )
            print(f"archiving              {jobs / seconds:.0f} jobs/s")
            print(f"rebuild                {before.seconds:.1f} s before, {after.seconds:.1f} s after")
            print(f"verify                 {'equal' if (await verify(settings)).equal else 'NOT EQUAL'}")
            await bus.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    asyncio.run(main(parser.parse_args().jobs))
