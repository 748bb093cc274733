"""Moves the events of jobs that ended long ago from the log to the object store: in the process that writes the tables.

What is done with one object, and how it goes on after a crash at any point:

1. A mark of the object is stored, then the object with the events of up to a thousand jobs. If it is still not there
   `READERS_SECONDS` later the mark is removed again; nothing has happened. Not sooner: a store may carry out a put
   after its client gave up, and no pass and no erasure finds an object without a mark.
2. The object is read back. `JobArchived`, which names the job's place in it, is appended for each job whose events in
   the log are those in the object, by the version rule: one that was deleted meanwhile is overwritten in the object.
3. After `READERS_SECONDS` the object is read again. The events that it holds, and that the log says to be there, are
   removed from the log, oldest first. Then the mark is removed.

So each event is in the log, or in an object that the log names, at any moment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from loguru import logger
from prometheus_client import Counter

from dreamforge.contracts.errors import ArchiveBroken, ArtifactNotFound
from dreamforge.contracts.events import JobArchived, JobRequested
from dreamforge.contracts.jobs.archival import ArchiveJob
from dreamforge.contracts.jobs.state import fold
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.log.subjects import entity_of, job_filter
from dreamforge.projector.maintenance import log_removal
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.writing.same_log import require_proved
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log import direct_get, leader_get
from dreamforge.runtime.log.archived import archived_in
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore, LoadedJob
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.readable import readable
from dreamforge.runtime.storage.archive_format import Member, members, packed, without
from dreamforge.runtime.storage.bucket_owner import require_owner
from dreamforge.runtime.storage.job_archive import CONTENT_TYPE
from dreamforge.runtime.storage.objects import ARCHIVE, ARCHIVE_OPEN, ObjectStore, sha256_of
from dreamforge.runtime.storage.postgres import Connection

ARCHIVED = Counter("forge_archived_jobs_total", "Jobs whose events were moved from the log to the archive")
ARCHIVED_BYTES = Counter("forge_archived_bytes_total", "Size of the archive objects that were written")
# One object, and the most that is lost by a crash is the work on it.
JOBS_PER_OBJECT = 1_000
OBJECT_MAX_BYTES = 32 * 2**20
# So long fewer jobs than fill an object wait for others.
GATHER_SECONDS = 3_600.0
# A read that began before a job was archived has ended by then (REQUEST_TIMEOUT_SECONDS of the bus is 5 s).
READERS_SECONDS = 10.0
# Requests for so many jobs are made at the same time: the server answers them one after the other anyway.
JOBS_AT_ONCE = 32
DUE = b"""SELECT job_id FROM jobs WHERE finished_at < %s AND archived_at IS NULL AND erase_at IS NULL
AND job_id <> ALL(%s) ORDER BY finished_at LIMIT %s"""
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Named:
    """When the jobs of an object were named in the log (monotonic), and whether there were any."""

    at_seconds: float
    any_jobs: bool


class Archiver:
    """One pass after the other. It is the only writer of archives: the projector that writes the tables has one."""

    def __init__(
        self, settings: ProjectorSettings, bus: Bus, store: EventStore, objects: ObjectStore, connection: Connection
    ) -> None:
        self._settings, self._bus, self._store = settings, bus, store
        self._objects, self._connection = objects, connection
        self._open: dict[str, _Named | None] | None = None
        self._passed_over: set[str] = set()
        self._began_at: float | None = None

    async def run_pass(self) -> bool:
        """Go on with what was begun, else begin with the jobs that are due; False when there was nothing to do.

        Errors: ArchiveBroken, OtherLog, NotOurs, DependencyAway, ApiError, psycopg.OperationalError.
        """
        if self._open is None:
            self._open = {_key(found.key): None for found in await self._objects.listed(ARCHIVE_OPEN)}
        if self._open:
            await self._go_on(self._open)
            return True
        if self._settings.archive_jobs_days:
            await self._begin(self._open)
        return bool(self._open)

    async def _go_on(self, opened: dict[str, _Named | None]) -> None:
        await self._require_ours()
        now = clock.monotonic_seconds()
        for key, named in list(opened.items()):
            if named is None:
                opened[key] = _Named(now, await self._name_jobs(key))
            elif now - named.at_seconds < READERS_SECONDS:
                continue
            elif not named.any_jobs and await self._name_jobs(key):
                opened[key] = _Named(now, any_jobs=True)
            else:
                await self._remove_events(key)
                await self._objects.remove(_mark(key))
                del opened[key]

    async def _require_ours(self) -> None:
        await require_owner(self._objects, await require_proved(self._bus, self._connection))

    async def _begin(self, opened: dict[str, _Named | None]) -> None:
        """Store the events of the jobs that are due in a new object."""
        until = clock.now() - timedelta(days=self._settings.archive_jobs_days)
        rows = await self._connection.execute(DUE, (until, list(self._passed_over), JOBS_PER_OBJECT))
        job_ids = [str(row[0]) for row in await rows.fetchall()]
        now, before = clock.monotonic_seconds(), self._began_at
        if not job_ids or not is_worth_an_object(len(job_ids), None if before is None else now - before):
            return
        await self._require_ours()
        data = b""
        for job_id, messages in zip(job_ids, await _each(job_ids, self._messages), strict=True):
            if messages and len(data) < OBJECT_MAX_BYTES:
                data += packed(messages)
            elif messages is None:
                self._passed_over.add(job_id)
        if data:
            key = f"{ARCHIVE}{ids.new_id()}.jsonl.gz"
            await self._objects.put(_mark(key), b"", "text/plain")
            await self._objects.put(key, data, CONTENT_TYPE)
            opened[key], self._began_at = None, now

    async def _messages(self, job_id: str) -> tuple[LogMessage, ...] | None:
        """All that the log has of a job; () of one that was archived, None of one with anything unusual in it."""
        stored = await self._stored(job_id)
        if any(archived_in(message) for message in stored):
            return ()
        info = await self._bus.request(f"$JS.API.STREAM.INFO.{JOBS.name}", {"subjects_filter": job_filter(job_id)})
        count = sum((info["state"].get("subjects") or {}).values())
        if is_usual(stored, count):
            return tuple(stored)
        logger.warning("job {} stays in the log: it has messages there that are none of its course", job_id)
        return None

    async def _stored(self, job_id: str) -> list[LogMessage]:
        subjects = job_filter(job_id)
        version = await leader_get.version(self._bus, JOBS.name, subjects)
        if not version:
            return []
        return await direct_get.last_of_each(self._bus, JOBS.name, subjects, covering=version)

    async def _name_jobs(self, key: str) -> bool:
        """Append where the jobs of an object are, and overwrite those that are not to be there; False without any."""
        try:
            data = await self._objects.get(key)
        except ArtifactNotFound:
            return False
        found = _members(key, data)
        named = await _each(found, lambda member: self._name(key, member))
        unwanted = [member for member, is_named in zip(found, named, strict=True) if not is_named]
        if len(unwanted) == len(found):
            await self._objects.remove(key)
            return False
        for member in unwanted:
            data = without(data, member.offset_bytes, len(member.data))
        if unwanted:
            await self._objects.put(key, data, CONTENT_TYPE)
        ARCHIVED.inc(len(found) - len(unwanted))
        ARCHIVED_BYTES.inc(len(data))
        logger.info("archived {} jobs in {}, {} bytes", len(found) - len(unwanted), key, len(data))
        return True

    async def _name(self, key: str, member: Member) -> bool:
        """Whether the log says, now or since before, that a job is in this part of the object."""
        job_id, place = entity_of(member.messages[0].subject), member.place(key)
        stored = await self._stored(job_id)
        if _names(stored, key, member) is not None:
            return True
        if [message for message in stored if message.sequence <= place.last_sequence] != list(member.messages):
            return False
        history = tuple(filter(None, map(readable, stored)))
        known = LoadedJob(fold(recorded.event for recorded in history), stored[-1].sequence, history)
        if (await self._store.execute(job_id, ArchiveJob(clock.now(), place), known=known)).events:
            return True
        # A projector that was frozen here, and lost its lock, must not overwrite what its successor has named.
        return _names(await self._stored(job_id), key, member) is not None

    async def _remove_events(self, key: str) -> None:
        """Remove from the log what an object holds, of the jobs that the log says to be there."""
        try:
            data = await self._objects.get(key)
        except ArtifactNotFound:
            return
        await _each(_members(key, data), lambda member: self._remove(key, member))

    async def _remove(self, key: str, member: Member) -> None:
        stored = await self._stored(entity_of(member.messages[0].subject))
        archived = _names(stored, key, member)
        if archived is None:
            return
        if sha256_of(member.data) != archived.sha256:
            reason = f"object {key} has other bytes at {member.offset_bytes} than the log says"
            raise ArchiveBroken(reason=reason)
        await log_removal.remove_archived(self._bus, [each for each in stored if each in member.messages])


def is_worth_an_object(jobs: int, since_last_seconds: float | None) -> bool:
    """Whether so many jobs are stored now, or wait for others. Pure.

    >>> is_worth_an_object(1, None), is_worth_an_object(1, 60.0), is_worth_an_object(1_000, 60.0)
    (True, False, True)
    """
    return jobs >= JOBS_PER_OBJECT or since_last_seconds is None or since_last_seconds >= GATHER_SECONDS


def is_usual(messages: Sequence[LogMessage], count: int) -> bool:
    """Whether messages are the whole course of a job: all `count` under its subjects, each readable. Pure."""
    events = [recorded.event for message in messages if (recorded := readable(message)) is not None]
    return len(events) == len(messages) == count and isinstance(events[0], JobRequested) if events else False


def _names(stored: Iterable[LogMessage], key: str, member: Member) -> JobArchived | None:
    """The event that says that a job is in this part of the object, if the log has it."""
    found = next((event for message in stored if (event := archived_in(message)) is not None), None)
    same = found is not None and (found.object_key, found.offset_bytes) == (key, member.offset_bytes)
    return found if same else None


def _members(key: str, data: bytes) -> list[Member]:
    """The jobs in an object, without those that were erased. Errors: ArchiveBroken."""
    try:
        return [member for member in members(data) if member.messages]
    except ValueError as error:
        raise ArchiveBroken(reason=f"object {key}: {error}") from None


def _mark(key: str) -> str:
    return ARCHIVE_OPEN + key.removeprefix(ARCHIVE)


def _key(mark: str) -> str:
    return ARCHIVE + mark.removeprefix(ARCHIVE_OPEN)


async def _each(items: Sequence[S], work: Callable[[S], Awaitable[T]]) -> list[T]:
    """The results in the order of the items, some of them made at the same time."""
    found: list[T] = []
    for first in range(0, len(items), JOBS_AT_ONCE):
        found += await asyncio.gather(*map(work, items[first : first + JOBS_AT_ONCE]))
    return found
