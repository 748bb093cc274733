"""Jobs that ended long ago are in the archive and not in the log, and nothing else about them changes."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from dreamforge.contracts.errors import ArchiveBroken, IdempotencyConflict
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.erasure import EraseArtifact, RequestErasure
from dreamforge.contracts.jobs.owner import RequestCancel
from dreamforge.projector.maintenance import archiver as archiver_module
from dreamforge.projector.maintenance.archive_status import archive_status
from dreamforge.projector.maintenance.archiver import Archiver
from dreamforge.projector.maintenance.eraser import Eraser
from dreamforge.projector.maintenance.rebuild import rebuild
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.storage.bucket_owner import claim
from dreamforge.runtime.storage.job_archive import JobArchive
from dreamforge.runtime.storage.objects import ARCHIVE, ARCHIVE_OPEN, ObjectStore
from dreamforge.runtime.storage.postgres import connect
from dreamforge.runtime.testing import eventually

NEVER_SECONDS = 1e6
PROMPT = "a secret orchid in the moonlight"
TABLES = ("jobs", "attempts", "artifacts", "events", "job_inputs")


@dataclass
class World:
    """A log, its tables, a bucket; whatever reads jobs reads the archive, too."""

    settings: ProjectorSettings
    bus: Bus
    store: EventStore
    objects: ObjectStore
    story: Any
    rows: Callable[..., Awaitable[list[dict[str, Any]]]]

    async def finished(self, prompt: str = PROMPT) -> str:
        """A job with two images, after a first attempt that began."""
        job_id = ids.new_id()
        await self.story.request(job_id, prompt)
        await self.story.start(job_id)
        await self.story.finish(job_id)
        return job_id

    async def archive(self, **options: Any) -> None:
        """All passes that an archiver needs which has just started."""
        settings = self.settings.model_copy(update={"archive_jobs_days": 1e-9} | options)
        async with await connect(settings.database_url.get_secret_value(), name="test") as connection:
            archiver = Archiver(settings, self.bus, self.store, self.objects, connection)
            while await archiver.run_pass():
                pass

    async def erase(self, folded: Any, job_id: str) -> None:
        """Erase a job, and remove what is left of it."""
        now = clock.now()
        await self.store.execute(job_id, RequestErasure(now, now))
        async with await connect(self.settings.database_url.get_secret_value(), name="test") as connection:
            for _ in range(2):  # the first one appends JobErased, the second removes once the tables have it
                await folded((await self.store.load(job_id)).version)
                await Eraser(self.settings, self.bus, self.store, self.objects, connection).run_pass()

    async def in_log(self, job_id: str) -> list[str]:
        """What the log has of a job."""
        found = await direct_get.last_of_each(self.bus, "JOBS", f"forge.jobs.{job_id}.>")
        return [message.subject.split(".")[4] for message in found]

    async def archived_text(self) -> str:
        """All that the archive has."""
        found = [await self.objects.get(each.key) for each in await self.objects.listed(ARCHIVE)]
        return "".join(gzip.decompress(data).decode() for data in found)

    async def tables(self) -> dict[str, list[str]]:
        """Every row, but for what says that a job is archived."""
        rest = "to_jsonb(t) - 'version' - 'archived_at'"
        named = {name: f"SELECT ({rest})::text AS row FROM {name} AS t" for name in TABLES}
        named["events"] += " WHERE type <> 'dreamforge.job.archived.v1'"
        return {name: sorted(row["row"] for row in await self.rows(query)) for name, query in named.items()}


@pytest.fixture(autouse=True)
def no_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reads while a job is archived, so nothing has to be waited for."""
    monkeypatch.setattr(archiver_module, "READERS_SECONDS", 0.0)


@pytest.fixture
async def world(bus: Bus, story: Any, rows: Any, forge_env: dict[str, str], database_url: str) -> World:
    names = {name.removeprefix("FORGE_").lower(): value for name, value in forge_env.items()}
    options: dict[str, Any] = names | {"database_url": SecretStr(database_url), "projector_collect_grace_seconds": 0}
    settings = ProjectorSettings(_env_file=None, projector_erase_seconds=NEVER_SECONDS, **options)
    objects = ObjectStore(settings)
    await claim(objects, (await stream_place(bus, "JOBS")).log_id)
    store = story.store = EventStore(bus, "/dreamforge/test", archive=JobArchive(objects))
    return World(settings, bus, store, objects, story, rows)


async def test_an_archived_job_is_read_answers_and_is_rebuilt_as_before(
    world: World, projecting: Any, folded: Any
) -> None:
    finished, waiting = [await world.finished() for _ in range(3)], ids.new_id()
    await world.story.request(waiting)
    before = {job_id: await world.store.load(job_id) for job_id in (*finished, waiting)}
    async with projecting(world.settings):
        await folded(before[waiting].version)
        tables = await world.tables()
        await world.archive()
        assert [await world.in_log(job_id) for job_id in finished] == [["archived"]] * 3
        assert await world.in_log(waiting) == ["requested"]
        assert len(await world.objects.listed(ARCHIVE)) == 1
        found = await archive_status(world.settings)
        assert (found.objects, found.unfinished_objects, found.log_subjects) == (1, 0, 4)

        for job_id in finished:
            now = await world.store.load(job_id)
            assert now.history[:-1] == before[job_id].history
            assert now.state == replace(before[job_id].state, archived=True)
            assert await world.story.request(job_id, PROMPT) == now.version  # repeated: nothing is started
            with pytest.raises(IdempotencyConflict):
                await world.story.request(job_id, "another prompt")
            assert (await world.store.execute(job_id, RequestCancel(clock.now()))).events == ()
        await folded((await world.store.load(finished[-1])).version)
        assert await world.tables() == tables
        assert (await verify(world.settings)).equal
        await rebuild(world.settings)
        assert await world.tables() == tables
        found = await archive_status(world.settings)
        assert (found.archived_jobs, found.ended_jobs_in_log, found.oldest_ended_at) == (3, 0, None)


async def test_an_archived_job_can_be_erased_and_is_then_in_no_object(
    world: World, projecting: Any, folded: Any
) -> None:
    job_id, other = await world.finished(), await world.finished("a plain cube")
    async with projecting(world.settings):
        await folded((await world.store.load(other)).version)
        await world.archive()
        assert PROMPT in await world.archived_text()
        await world.store.execute(job_id, EraseArtifact(clock.now(), 1, 0))
        await world.erase(folded, job_id)

        assert await world.in_log(job_id) == ["erased"]
        text = await world.archived_text()
        assert PROMPT not in text
        assert job_id not in text
        assert (await world.store.load(job_id)).state.status is Status.ERASED
        assert [each.entity_id for each in (await world.store.load(other)).history] == [other] * 7
        assert (await verify(world.settings)).equal


async def test_a_job_that_is_deleted_while_it_is_archived_stays_in_the_log_alone(
    world: World, projecting: Any, folded: Any
) -> None:
    job_id, other = await world.finished(), await world.finished("a plain cube")
    async with projecting(world.settings):
        await folded((await world.store.load(other)).version)
        settings = world.settings.model_copy(update={"archive_jobs_days": 1e-9})
        async with await connect(settings.database_url.get_secret_value(), name="test") as connection:
            archiver = Archiver(settings, world.bus, world.store, world.objects, connection)
            assert await archiver.run_pass()  # the object is stored, and no job named in the log
            assert PROMPT in await world.archived_text()
            await world.store.execute(job_id, RequestErasure(clock.now(), clock.now() + timedelta(days=1)))
            while await archiver.run_pass():
                pass
        assert "archived" not in await world.in_log(job_id)
        assert PROMPT not in await world.archived_text()
        assert await world.in_log(other) == ["archived"]


async def test_an_object_with_other_bytes_than_the_log_says_is_not_taken_for_a_job(
    world: World, projecting: Any, folded: Any
) -> None:
    job_id = await world.finished()
    async with projecting(world.settings):
        await folded((await world.store.load(job_id)).version)
        await world.archive()
        await folded((await world.store.load(job_id)).version)
        (found,) = await world.objects.listed(ARCHIVE)
        data = await world.objects.get(found.key)
        await world.objects.put(found.key, data[:-9] + b"\0" + data[-8:], "application/gzip")
        with pytest.raises(ArchiveBroken):
            await world.store.load(job_id)
        with pytest.raises(ArchiveBroken):
            await verify(world.settings)
        await world.objects.put(found.key, data, "application/gzip")
        assert (await verify(world.settings)).equal


async def test_a_job_with_anything_unreadable_and_one_that_ended_recently_stay_in_the_log(
    world: World, projecting: Any, folded: Any
) -> None:
    odd, recent = await world.finished(), await world.finished()
    await world.bus.js.publish(f"forge.jobs.{odd}.0.nonsense", b"?")
    async with projecting(world.settings):
        await folded((await world.store.load(recent)).version)
        await world.archive(archive_jobs_days=1.0)
        assert "archived" not in await world.in_log(recent)
        await world.archive()
        assert "archived" not in await world.in_log(odd)
        assert await world.in_log(recent) == ["archived"]


async def test_the_service_archives_by_itself(world: World, projecting: Any) -> None:
    job_id = await world.finished()
    at_once = {"archive_jobs_days": 1e-9, "projector_erase_seconds": 0.05}
    async with projecting(world.settings.model_copy(update=at_once)):
        await eventually(lambda: world.in_log(job_id), until=lambda found: found == ["archived"], timeout_seconds=30)
        await eventually(lambda: world.objects.listed(ARCHIVE_OPEN), until=lambda found: not found)


async def test_two_archivers_at_once_overwrite_nothing_that_the_other_has_named(
    world: World, projecting: Any, folded: Any
) -> None:
    jobs = [await world.finished(f"job {number}") for number in range(8)]
    before = {job_id: (await world.store.load(job_id)).history for job_id in jobs}
    async with projecting(world.settings):
        await folded(before[jobs[-1]][-1].sequence)
        settings = world.settings.model_copy(update={"archive_jobs_days": 1e-9})
        url = settings.database_url.get_secret_value()
        async with await connect(url, name="test") as one, await connect(url, name="test") as other:
            first = Archiver(settings, world.bus, world.store, world.objects, one)
            assert await first.run_pass()
            second = Archiver(settings, world.bus, world.store, world.objects, other)
            for _ in range(2):
                await asyncio.gather(first.run_pass(), second.run_pass())
        for job_id in jobs:
            assert (await world.store.load(job_id)).history[:-1] == before[job_id]
            assert await world.in_log(job_id) == ["archived"]
        assert (await verify(world.settings)).equal
