"""Reads the audit: several streams, from a time on, in the order of time, page by page, without anything kept."""

import base64
import binascii
import json
from dataclasses import dataclass, field
from datetime import datetime

from dreamforge.contracts.audit import SOURCES, AuditEntry, entry_of, matches
from dreamforge.contracts.events import JobEvent, JobRequested
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.log.subjects import job_filter
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.archived import NO_ARCHIVE, ArchiveReader, whole
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.newest_readable import newest_readable
from dreamforge.runtime.log.readable import readable

BATCH_MESSAGES = 256
# Rounds of one page: a page that finds little in so many messages ends, and its cursor goes on.
ROUNDS_MAX = 20
JOBS_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class AuditCursor:
    """The last sequence that was read of each source; where that is 0, nothing before `since` was read."""

    since: datetime
    sequences: tuple[int, ...] = (0,) * len(SOURCES)

    def encode(self) -> str:
        """As text for a URL."""
        text = json.dumps([self.since.isoformat(), *self.sequences], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> "AuditCursor":
        """Errors: ValueError."""
        try:
            since, *sequences = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            found = cls(datetime.fromisoformat(since), tuple(int(each) for each in sequences))
        except (binascii.Error, TypeError, ValueError, RecursionError):
            raise ValueError("not a cursor of the audit") from None
        valid = len(found.sequences) == len(SOURCES) and min(found.sequences) >= 0 and max(found.sequences) < 2**63
        if not valid or found.since.tzinfo is None:
            raise ValueError("not a cursor of the audit")
        return found


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Entries in the order of time. `more`: the cursor leads to some now; it leads to later ones in any case."""

    entries: tuple[AuditEntry, ...]
    cursor: AuditCursor
    more: bool


@dataclass(slots=True)
class AuditReader:
    """Errors of each read: DependencyAway, ArchiveBroken."""

    bus: Bus
    archive: ArchiveReader = NO_ARCHIVE
    _tenants: dict[str, str | None] = field(default_factory=dict)

    async def page(
        self, cursor: AuditCursor, *, limit: int, tenant: str | None = None, actor: str | None = None
    ) -> AuditPage:
        """Up to `limit` entries after a cursor."""
        found: list[AuditEntry] = []
        for _ in range(ROUNDS_MAX):
            entries, cursor, more = await self._round(cursor, limit - len(found), tenant, actor)
            found += entries
            if not more or len(found) >= limit:
                return AuditPage(tuple(found), cursor, more)
        return AuditPage(tuple(found), cursor, True)

    async def _round(
        self, cursor: AuditCursor, limit: int, tenant: str | None, actor: str | None
    ) -> tuple[list[AuditEntry], AuditCursor, bool]:
        """One batch of each source, as far as all of them were read; the rest is read again by the next round."""
        read: list[tuple[datetime, int, Recorded]] = []
        sequences, horizon = list(cursor.sequences), None
        for index, (stream, subject) in enumerate(SOURCES):
            batch = await direct_get.since(
                self.bus, stream, subject, cursor.sequences[index], cursor.since, count=BATCH_MESSAGES
            )
            recorded = [found for message in batch if (found := readable(message)) is not None]
            read += [(each.at, index, each) for each in recorded]
            if len(batch) >= BATCH_MESSAGES:
                last = recorded[-1].at if recorded else cursor.since
                horizon = last if horizon is None else min(horizon, last)
            if not recorded and batch:
                sequences[index] = batch[-1].sequence
        read.sort(key=lambda each: (each[0], each[1], each[2].sequence))
        entries: list[AuditEntry] = []
        for at, index, each in read:
            if len(entries) >= limit or (horizon is not None and at > horizon):
                return entries, AuditCursor(cursor.since, tuple(sequences)), True
            sequences[index] = max(sequences[index], each.sequence)
            entry = entry_of(each, SOURCES[index][0], await self._tenant_of(each))
            if entry is not None and matches(entry, tenant, actor):
                entries.append(entry)
        return entries, AuditCursor(cursor.since, tuple(sequences)), horizon is not None

    async def _tenant_of(self, recorded: Recorded) -> str | None:
        """Of a job's event, whose job it is."""
        if not isinstance(recorded.event, JobEvent):
            return None
        job_id = recorded.entity_id
        if isinstance(recorded.event, JobRequested):
            return recorded.event.tenant
        if job_id not in self._tenants:
            if len(self._tenants) >= JOBS_REMEMBERED:
                self._tenants.clear()
            stored = await direct_get.last(self.bus, JOBS.name, f"{job_filter(job_id)[:-1]}0.{JobRequested.TOKEN}")
            first = readable(stored) if stored else await self._archived_request(job_id)
            found = first.event if first else None
            self._tenants[job_id] = found.tenant if isinstance(found, JobRequested) else None
        return self._tenants[job_id]

    async def _archived_request(self, job_id: str) -> Recorded | None:
        """The first event of a job that has left the log; None of one that was erased."""
        stored, _ = await newest_readable(self.bus, JOBS.name, job_filter(job_id))
        found = await whole(job_id, stored, self.archive)
        return found[0][1] if found else None
