"""Brings the archived events of jobs that the tables do not have into a fold, before the events that name their place.

Live tables have folded a job long before it is archived, so that nothing is read there; a rebuild reads each object of
the archive once.
"""

from collections.abc import Sequence

from dreamforge.contracts.events import JobArchived
from dreamforge.projector.folding.decode import Decoded, decode
from dreamforge.runtime.log.archived import ArchiveReader
from dreamforge.runtime.storage.postgres import Connection

VERSIONS = b"SELECT job_id, version FROM jobs WHERE job_id = ANY(%s)"


async def with_archived_events(
    connection: Connection, items: Sequence[Decoded], archive: ArchiveReader
) -> list[Decoded]:
    """The items of a batch and what they lack. Errors: ArchiveBroken, DependencyAway, psycopg.OperationalError."""
    archived = {item.message.sequence: event for item in items if (event := _archived(item)) is not None}
    if not archived:
        return list(items)
    ids = [item.entry.recorded.entity_id for item in items if item.entry and item.message.sequence in archived]
    rows = await (await connection.execute(VERSIONS, (ids,))).fetchall()
    versions = {str(row[0]): int(str(row[1])) for row in rows}
    found: list[Decoded] = []
    for item in items:
        event = archived.get(item.message.sequence)
        if event is not None and item.entry is not None:
            job_id = item.entry.recorded.entity_id
            if versions.get(job_id, 0) < event.last_sequence:
                messages = decode(await archive.messages(job_id, event))
                found += [each._replace(archived_by=item.message.sequence) for each in messages]
        found.append(item)
    return found


def _archived(item: Decoded) -> JobArchived | None:
    event = item.entry.recorded.event if item.entry is not None else None
    return event if isinstance(event, JobArchived) else None
