"""Erases jobs whose time has come, and what is left of those that were erased: in the process that writes the tables.

It alone knows that the tables have folded `JobErased`: only then is the rest of the job removed from the log, so that
live tables and a rebuild agree at any moment. Objects go first, then steps and parked messages, the events last: as
long as one of these is there, a process that starts finds it and goes on.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from loguru import logger
from prometheus_client import Counter
from psycopg import OperationalError

from dreamforge.contracts.errors import ArchiveBroken, ForgeError
from dreamforge.contracts.events import ArtifactErased, ArtifactStored, ErasureRequested
from dreamforge.contracts.jobs.erasure import EraseJob, RequestErasure
from dreamforge.contracts.log.actor import Actor
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.tables import OF_ERASURE
from dreamforge.projector.maintenance import log_removal
from dreamforge.projector.maintenance.archiver import Archiver
from dreamforge.projector.maintenance.named_objects import named, shown
from dreamforge.projector.maintenance.object_removal import set_aside, settle
from dreamforge.projector.projector import Projector, Role
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.writing.same_log import require_proved
from dreamforge.runtime import clock
from dreamforge.runtime.log.archived import archived_in, with_archived
from dreamforge.runtime.log.bus import ApiError, Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.readable import readable
from dreamforge.runtime.storage.bucket_owner import require_owner
from dreamforge.runtime.storage.job_archive import JobArchive
from dreamforge.runtime.storage.objects import ObjectStore, object_key
from dreamforge.runtime.storage.postgres import Connection, connect

ERASED = Counter("forge_erased_jobs_total", "Jobs that were removed from the log and the object store")
# Of each pass, so that one pass is short; the next one goes on.
JOBS_PER_PASS = 100
DUE = b"SELECT job_id FROM jobs WHERE erase_at <= %s ORDER BY erase_at LIMIT %s"
OLD = b"SELECT job_id FROM jobs WHERE finished_at < %s AND erase_at IS NULL ORDER BY finished_at LIMIT %s"
ERASURES = f"""SELECT sequence, job_id, type, attempt, (payload->>'index')::int FROM events
WHERE {OF_ERASURE} AND sequence > %s ORDER BY sequence LIMIT %s""".encode()


@dataclass(frozen=True, slots=True)
class Erasure:
    """A `JobErased` or `ArtifactErased` that the tables have folded."""

    sequence: int
    job_id: str
    type: str
    attempt: int
    index: int | None


class Eraser:
    """One pass after the other over what is due. `connection` reads the tables that `store` and `objects` belong to."""

    def __init__(
        self, settings: ProjectorSettings, bus: Bus, store: EventStore, objects: ObjectStore, connection: Connection
    ) -> None:
        self._settings, self._bus, self._store = settings, bus, store
        self._objects, self._connection = objects, connection
        self._archive = JobArchive(objects)
        self._removed_up_to = 0
        self._aside = True

    async def run_pass(self) -> None:
        """Ask for what retention wants, erase what is due, remove what is left of what was erased.

        Errors: OtherLog, NotOurs, DependencyAway, ApiError, psycopg.OperationalError.
        """
        await self._retain()
        await self._erase_due()
        await self._remove_erased()
        if self._aside:
            grace = self._settings.projector_collect_grace_seconds
            who_names = partial(named, self._bus, self._connection, self._objects)
            self._aside = await settle(self._objects, who_names, grace_seconds=grace) > 0

    async def _retain(self) -> None:
        days, now = self._settings.retention_jobs_days, clock.now()
        if not days:
            return
        command = RequestErasure(now, now + timedelta(seconds=self._settings.erasure_grace_seconds), "retention")
        for job_id in await self._ids(OLD, (now - timedelta(days=days), JOBS_PER_PASS)):
            await self._store.execute(job_id, command)

    async def _erase_due(self) -> None:
        """An open job is erased once its runner has confirmed that it was cancelled."""
        now = clock.now()
        for job_id in await self._ids(DUE, (now, JOBS_PER_PASS)):
            loaded = await self._store.load(job_id)
            await self._store.execute(job_id, EraseJob(now), known=loaded, actor=asked_by(loaded.history))

    async def _ids(self, query: bytes, values: tuple[object, ...]) -> list[str]:
        return [str(row[0]) for row in await (await self._connection.execute(query, values)).fetchall()]

    async def _remove_erased(self) -> None:
        rows = await (await self._connection.execute(ERASURES, (self._removed_up_to, JOBS_PER_PASS))).fetchall()
        if not rows:
            return
        await require_owner(self._objects, await require_proved(self._bus, self._connection))
        for erasure in (Erasure(*row) for row in rows):  # type: ignore[arg-type]  # the columns of the query
            await self.remove(erasure)
            self._removed_up_to = erasure.sequence

    async def remove(self, erasure: Erasure) -> None:
        """Remove what an erasure has left; nothing if that was done before. Errors: as `run_pass`."""
        left = await log_removal.events_before(self._bus, erasure.job_id, erasure.sequence)
        messages = await self._with_archived(erasure.job_id, left)
        if erasure.type == ArtifactErased.TYPE:
            await self._remove_objects(_keys(messages, erasure.attempt, erasure.index))
            await log_removal.remove_steps(self._bus, erasure.job_id)
        elif left:
            await self._remove_objects(_keys(messages))
            await log_removal.remove_steps(self._bus, erasure.job_id)
            await log_removal.remove_parked(self._bus, [erasure.job_id])
            for archived in filter(None, map(archived_in, left)):
                await self._archive.erase(archived)
            await log_removal.remove_events(self._bus, erasure.job_id, left, erasure.sequence)
            ERASED.inc()
            logger.info("erased job {}", erasure.job_id)

    async def _with_archived(self, job_id: str, left: list[LogMessage]) -> Sequence[LogMessage]:
        """What the log and the archive have of a job; a lost object of the archive does not keep a job from erasure."""
        try:
            return await with_archived(job_id, left, self._archive)
        except ArchiveBroken as error:
            logger.warning("images of job {} are left to the collector: {}", job_id, error)
            return left

    async def _remove_objects(self, keys: set[str]) -> None:
        others = await shown(self._connection, sorted(keys))
        if await set_aside(self._objects, sorted(keys - others)):
            self._aside = True


def asked_by(history: Sequence[Recorded]) -> Actor | None:
    """Who asked for an erasure that is due, without their address: it goes with the other events of the job."""
    asked = [recorded.actor for recorded in history if isinstance(recorded.event, ErasureRequested)]
    return replace(asked[-1], address="", user_agent="") if asked and asked[-1] is not None else None


def _keys(messages: Sequence[LogMessage], attempt: int | None = None, index: int | None = None) -> set[str]:
    """The objects of the images of a job, or of one of them."""
    events = [recorded.event for message in messages if (recorded := readable(message)) is not None]
    stored = [event for event in events if isinstance(event, ArtifactStored)]
    return {
        object_key(each.sha256) for each in stored if index is None or (each.attempt, each.index) == (attempt, index)
    }


async def erase_periodically(settings: ProjectorSettings, bus: Bus, projector: Projector, store: EventStore) -> None:
    """Pass after pass while this process writes the tables, until cancelled; a failure is logged and tried again."""
    url = settings.database_url.get_secret_value()
    while True:
        await asyncio.sleep(settings.projector_erase_seconds)
        if projector.role is not Role.WRITING:
            continue
        try:
            async with await connect(url, name="dreamforge-erase") as connection:
                parts = (settings, bus, store, ObjectStore(settings), connection)
                eraser, archiver = Eraser(*parts), Archiver(*parts)
                while projector.role is Role.WRITING:
                    await eraser.run_pass()
                    await archiver.run_pass()  # not beside it: both overwrite parts of archive objects
                    await asyncio.sleep(settings.projector_erase_seconds)
        except (ForgeError, ApiError, OperationalError) as error:
            logger.warning("could not erase or archive what is due: {}", error)
