"""An archiver that is killed after any one of its writes leaves each event in exactly one place for every reader."""

import asyncio
import signal
import sys
from typing import Any

import pytest
from pydantic import SecretStr

from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import ids
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.storage.bucket_owner import claim
from dreamforge.runtime.storage.job_archive import JobArchive
from dreamforge.runtime.storage.objects import ARCHIVE, ARCHIVE_OPEN, ObjectStore

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]
NEVER_SECONDS = 1e6
WRITES_MAX = 60
# Runs passes, and kills itself right after some write to the log or the object store was acknowledged.
PROCESS = """
import asyncio, os, signal, sys
from dreamforge.projector.maintenance import archiver
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime.log.bus import Bus, connect
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.storage import postgres
from dreamforge.runtime.storage.job_archive import JobArchive
from dreamforge.runtime.storage.objects import ObjectStore

writes = [int(sys.argv[1])]

def killing(kind, name, is_write):
    whole = getattr(kind, name)
    async def call(*given, **named):
        done = await whole(*given, **named)
        writes[0] -= is_write(given)
        if not writes[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    setattr(kind, name, call)

async def main():
    settings = ProjectorSettings()
    bus = await connect(settings.nats_url, "archiver", settings.nats_prefix)
    objects = ObjectStore(settings)
    store = EventStore(bus, "/dreamforge/archiver", archive=JobArchive(objects))
    killing(ObjectStore, "put", lambda given: True)
    killing(ObjectStore, "remove", lambda given: True)
    killing(EventStore, "append", lambda given: True)
    killing(Bus, "request", lambda given: "MSG.DELETE" in given[1] or "PURGE" in given[1])
    archiver.READERS_SECONDS = 0.0
    archiver.JOBS_AT_ONCE = 1
    async with await postgres.connect(settings.database_url.get_secret_value(), name="archiver") as connection:
        work = archiver.Archiver(settings, bus, store, objects, connection)
        while await work.run_pass():
            pass

asyncio.run(main())
"""


async def test_an_archiver_killed_after_each_of_its_writes_loses_and_repeats_nothing(
    bus: Bus, story: Any, projecting: Any, folded: Any, forge_env: dict[str, str], database_url: str
) -> None:
    environment = forge_env | {
        "FORGE_DATABASE_URL": database_url,
        "FORGE_ARCHIVE_JOBS_DAYS": "1e-9",
        "FORGE_PROJECTOR_ERASE_SECONDS": str(NEVER_SECONDS),
    }
    names = {name.removeprefix("FORGE_").lower(): value for name, value in environment.items()}
    options: dict[str, Any] = names | {"database_url": SecretStr(database_url)}
    settings = ProjectorSettings(_env_file=None, **options)
    objects = ObjectStore(settings)
    await claim(objects, (await stream_place(bus, "JOBS")).log_id)
    reader = EventStore(bus, "/dreamforge/test", archive=JobArchive(objects))
    jobs = [ids.new_id() for _ in range(2)]
    for job_id in jobs:
        await story.request(job_id)
        await story.start(job_id)
        await story.finish(job_id, images=2)
    before = {job_id: (await reader.load(job_id)).history for job_id in jobs}
    idle = settings.model_copy(update={"archive_jobs_days": 0.0})
    async with projecting(idle):
        await folded(before[jobs[-1]][-1].sequence)
        for killed in range(WRITES_MAX):
            # A mark without its object is removed and made anew: only the third write is then a new one.
            writes = "3" if killed and not await objects.listed(ARCHIVE) else "1"
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, writes, env=environment)
            status = await process.wait()
            for job_id in jobs:
                found = [each for each in (await reader.load(job_id)).history if each.event.TOKEN != "archived"]
                assert tuple(found) == before[job_id], f"after write {killed + 1}"
            assert (await verify(idle)).equal, f"after write {killed + 1}"
            if status == 0:
                break
            assert status == -signal.SIGKILL
        # The mark, the object, and for each job its place and the removal of its six events; then the mark again.
        assert killed == 2 + len(jobs) * 7 + 1
    for job_id in jobs:
        (left,) = await direct_get.last_of_each(bus, "JOBS", f"forge.jobs.{job_id}.>")
        assert left.subject.endswith(".archived")
    assert len(await objects.listed(ARCHIVE)) == 1
    assert await objects.listed(ARCHIVE_OPEN) == []
