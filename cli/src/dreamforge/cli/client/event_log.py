"""Reads the event log from NATS: the events of one job, or all events from a position on."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from datetime import datetime

from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.log.envelope import Recorded, unseal
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.log.subjects import entity_of, job_filter
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.archived import NO_ARCHIVE, ArchiveReader, archived_in, with_archived
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.command_bus import command_bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.job_steps import steps_after
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.readable import readable


def connect_bus(settings: CliSettings, *, wait: bool = False) -> AbstractAsyncContextManager[Bus]:
    """A connection as the command's user of the bus. Errors: see `command_bus`."""
    return command_bus(settings, "cli", wait=wait)


async def events_of_job(bus: Bus, job_id: str, archive: ArchiveReader = NO_ARCHIVE) -> list[Recorded]:
    """Every event of a job, steps and what is in the archive included; [] if there is no such job."""
    stored = await direct_get.last_of_each(bus, JOBS.name, job_filter(job_id))
    facts = await with_archived(job_id, stored, archive)
    found = [*facts, *(await steps_after(bus, job_id, 0) if facts else ())]
    return [recorded for message in found if (recorded := readable(message))]


async def read_events(
    follower: Follower, *, until_end: bool, archive: ArchiveReader | None = None
) -> AsyncIterator[Recorded | MalformedEvent]:
    """Events in log order; a message that cannot be read is yielded as the error that says why.

    `until_end`: stop at the end of the log; otherwise wait for new events forever. `archive`: bring back the events
    that were archived, each job's before the event that says where they are.
    """
    jobs, after = ArchivedJobs(archive) if archive is not None else None, follower.after_sequence
    async with aclosing(follower.batches()) as batches:
        async for batch in batches:
            for message in batch.messages:
                for each in await jobs.before(message, after) if jobs is not None else ():
                    yield _event(each)
                yield _event(message)
            if until_end and batch.pending == 0:
                return


@dataclass(slots=True)
class ArchivedJobs:
    """Remembers how far back the log itself had each job, so that no event comes twice."""

    archive: ArchiveReader
    _first: dict[str, int] = field(default_factory=dict)

    async def before(self, message: LogMessage, after: int) -> Sequence[LogMessage]:
        """What comes before a message: archived events past `after` that the log did not have any more."""
        job_id = entity_of(message.subject)
        first = self._first.setdefault(job_id, message.sequence)
        archived = archived_in(message)
        if archived is None:
            return ()
        del self._first[job_id]
        found = await self.archive.messages(job_id, archived)
        return [each for each in found if after < each.sequence < first]


def _event(message: LogMessage) -> Recorded | MalformedEvent:
    try:
        return unseal(message.subject, message.headers, message.data, sequence=message.sequence)
    except MalformedEvent as error:
        return error


async def first_sequence_at(bus: Bus, stream: str, at: datetime) -> int:
    """The sequence of the first message stored at or after a time; one past the last if there is none.

    Errors: DependencyAway, ApiError.
    """
    info = await bus.request(f"$JS.API.STREAM.INFO.{stream}", None)
    end = int(info["state"]["last_seq"]) + 1
    answer = await bus.ask(f"$JS.API.DIRECT.GET.{stream}", b'{"start_time":"%b"}' % at.isoformat().encode())
    return int((answer.headers or {}).get("Nats-Sequence", end))
