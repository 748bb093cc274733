"""Every call of the archiver, times every way in which it can go wrong: it goes on, and a client sees nothing."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from system_testkit.fault_injection import FaultCase
from system_testkit.in_process_system import InProcessSystem

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.log.subjects import entity_of, job_filter
from dreamforge.projector.maintenance import archiver
from dreamforge.projector.maintenance.archiver import Archiver
from dreamforge.projector.maintenance.eraser import erase_periodically
from dreamforge.projector.projector import Role
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log import direct_get, leader_get
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.service.tasks import cancel
from dreamforge.runtime.storage.archive_format import members
from dreamforge.runtime.storage.job_archive import JobArchive
from dreamforge.runtime.storage.objects import ARCHIVE, ARCHIVE_OPEN
from dreamforge.runtime.storage.postgres import connect
from dreamforge.runtime.testing import eventually

pytestmark = [pytest.mark.fault, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
API = r"^archiver \$JS\.API\."
# The wire of each call, and how many like it are made before it.
CALLS = {
    "looks for jobs that are due": ("^dreamforge-erase SELECT job_id FROM jobs WHERE finished_at", 0),
    "asks whose tables they are": ("^dreamforge-erase SELECT .*checkpoints", 0),
    "asks whose log it is": (rf"{API}STREAM\.INFO\.JOBS$", 0),
    "asks whose bucket it is": (r"^GET /\S+/\.dreamforge-installation$", 0),
    "looks for what was begun": (r"^GET /[^/]+/?$", 1),
    "asks the leader for the version of a job": (rf"{API}STREAM\.MSG\.GET\.JOBS$", 1),
    "reads the events of a job": (rf"{API}DIRECT\.GET\.JOBS$", 0),
    "counts the events of a job": (rf"{API}STREAM\.INFO\.JOBS$", 1),
    "puts the mark": (r"^PUT /\S+/archive-open/", 0),
    "puts the object": (r"^PUT /\S+/archive/", 0),
    "reads the object back": (r"^GET /\S+/archive/", 0),
    "compares the object with the log": (rf"{API}DIRECT\.GET\.JOBS$", 1),
    "appends JobArchived": (r"^archiver forge\.jobs\.\S+\.archived$", 0),
    "reads the object before it removes": (r"^GET /\S+/archive/", 1),
    "removes the request": (rf"{API}STREAM\.MSG\.DELETE\.JOBS$", 0),
    "removes an event after others": (rf"{API}STREAM\.MSG\.DELETE\.JOBS$", 3),
    "removes the mark": (r"^DELETE /\S+/archive-open/", 0),
}


@pytest.fixture(autouse=True)
def no_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads while a job is archived, so nothing has to be waited for."""
    monkeypatch.setattr(archiver, "READERS_SECONDS", 0.0)


@asynccontextmanager
async def archiving(system: InProcessSystem) -> AsyncIterator[tuple[Any, ...]]:
    """What an archiver needs: settings by which every finished job is due, a connection to NATS of its own, a store."""
    options: dict[str, Any] = {name: getattr(system.settings, name) for name in type(system.settings).model_fields}
    options |= {"archive_jobs_days": 1e-9, "projector_erase_seconds": 0.02}
    bus = await bus_module.connect(system.settings.nats_url, "archiver")
    try:
        yield (
            ProjectorSettings(_env_file=None, **options),
            bus,
            EventStore(bus, "/test", archive=JobArchive(system.objects)),
        )
    finally:
        await bus.close()


async def archive_all(system: InProcessSystem, job_id: str, *, late: bool) -> None:
    """Archive as the projector does, until a job is in the archive and nothing is left to do.

    With `late`, a call that timed out arrives after that.
    """

    async def is_done() -> bool:
        # The log first: until then no fault of the store is one of this listing.
        return await in_log(system, job_id) == ["archived"] and not await system.objects.listed(ARCHIVE_OPEN)

    async with archiving(system) as (settings, bus, store):
        writing: Any = SimpleNamespace(role=Role.WRITING)  # the tables are written by the system's own projector
        passes = asyncio.create_task(erase_periodically(settings, bus, writing, store))
        try:
            await eventually(is_done, 30)
            assert not passes.done()
            for deliver in system.faults.delayed if late else ():
                await deliver()
            await bus.nc.flush()
        finally:
            await cancel(passes)


async def folded(system: InProcessSystem, job_id: str) -> None:
    """Wait until the tables say that a job is archived: before that it is due, and a pass would look at it again."""
    version = await leader_get.version(system.bus, "JOBS", job_filter(job_id))
    await eventually(lambda: system.job(job_id), until=lambda job: job["version"] == version)


async def in_log(system: InProcessSystem, job_id: str) -> list[str]:
    """What the log has of a job now."""
    found = await direct_get.last_of_each(system.bus, "JOBS", f"forge.jobs.{job_id}.>")
    return [message.subject.split(".")[4] for message in found]


async def as_read(system: InProcessSystem, job_id: str) -> tuple[dict[str, Any], str]:
    """A job but for its version, and its events to the byte; its images are read, and have the hashes it names."""
    job = await system.job(job_id)
    for image in job["artifacts"]:
        await system.fetch_image(image)
    del job["version"]  # JobArchived is an event of the job
    events = (await system.request("GET", f"/v1/jobs/{job_id}/events")).text
    return job, re.sub(r"^:.*\n+", "", events, flags=re.MULTILINE)  # without comments, which keep a quiet stream open


async def archived_jobs(system: InProcessSystem) -> Counter[str]:
    """How often each job is in the archive."""
    objects = [await system.objects.get(found.key) for found in await system.objects.listed(ARCHIVE)]
    return Counter(entity_of(member.messages[0].subject) for data in objects for member in members(data))


@pytest.mark.parametrize("case", FaultCase)
@pytest.mark.parametrize("name", CALLS)
async def test_an_archiver_whose_call_fails_ends_with_each_event_in_one_place(
    system: InProcessSystem, name: str, case: FaultCase
) -> None:
    await eventually(system.ready, 30)
    job_id = (await system.finished(await system.submit()))["job_id"]
    before = await as_read(system, job_id)
    wire, skip = CALLS[name]
    with system.faults.inject(case, wire, skip=skip) as fault:
        await archive_all(system, job_id, late=name.startswith(("appends", "removes")))
    assert fault.hits == 1
    await folded(system, job_id)
    assert await as_read(system, job_id) == before
    assert await in_log(system, job_id) == ["archived"]
    assert set((await archived_jobs(system)).values()) == {1}
    await system.tables_equal_the_log()


async def test_an_object_that_is_stored_after_its_put_timed_out_is_the_one_that_is_used(
    system: InProcessSystem,
) -> None:
    job_id = (await system.finished(await system.submit()))["job_id"]
    before = await as_read(system, job_id)
    url = system.settings.database_url.get_secret_value()
    async with archiving(system) as (settings, bus, store), await connect(url, name="dreamforge-erase") as connection:
        with system.faults.inject(FaultCase.TIMEOUT, r"^PUT /\S+/archive/"):
            with pytest.raises(DependencyAway):
                await Archiver(settings, bus, store, system.objects, connection).run_pass()
            (deliver,) = system.faults.delayed
            later = Archiver(settings, bus, store, system.objects, connection)
            assert await later.run_pass()  # there is no object yet
            await deliver()
        while await later.run_pass():
            pass
    await folded(system, job_id)
    assert (await archived_jobs(system))[job_id] == 1
    assert await system.objects.listed(ARCHIVE_OPEN) == []
    assert await as_read(system, job_id) == before
    assert await in_log(system, job_id) == ["archived"]
