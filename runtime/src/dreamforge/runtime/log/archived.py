"""Reads of a job whose earlier events are in the archive: they come first, and each event is there once."""

from collections.abc import Sequence
from typing import Protocol

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import JobArchived
from dreamforge.contracts.log.envelope import Recorded, unseal_or_none
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.readable import readable


class ArchiveReader(Protocol):
    """Where archived events are; `runtime.storage.job_archive` is the one there is."""

    async def messages(self, job_id: str, archived: JobArchived) -> tuple[LogMessage, ...]:
        """The archived messages of a job; () if it was erased since. Errors: ArchiveBroken, DependencyAway."""
        ...


class NoArchive:
    """Of processes without an object store: they never need a job that has ended long ago."""

    async def messages(self, job_id: str, archived: JobArchived) -> tuple[LogMessage, ...]:
        """Errors: DependencyAway, always."""
        reason = f"job {job_id} is in the archive ({archived.object_key}), and this process reads no object store"
        raise DependencyAway(dependency="s3", reason=reason)


NO_ARCHIVE: ArchiveReader = NoArchive()
Read = tuple[LogMessage, Recorded]


async def whole(job_id: str, found: list[Read], archive: ArchiveReader) -> list[Read]:
    """As `with_archived`, of messages that were read already."""
    if not any(isinstance(recorded.event, JobArchived) for _, recorded in found):
        return found
    messages = await with_archived(job_id, [message for message, _ in found], archive)
    return [(message, recorded) for message in messages if (recorded := readable(message)) is not None]


async def with_archived(job_id: str, messages: Sequence[LogMessage], archive: ArchiveReader) -> tuple[LogMessage, ...]:
    """The messages of a job that the log has, and before them those that the archive has, in the order of sequences.

    As long as the log still has all of them, the archive is not asked. Errors: as `ArchiveReader.messages`.
    """
    archived = next((event for each in messages if (event := archived_in(each)) is not None), None)
    if archived is None or len([m for m in messages if m.sequence <= archived.last_sequence]) >= archived.events:
        return tuple(messages)
    found = {message.sequence: message for message in await archive.messages(job_id, archived)}
    found |= {message.sequence: message for message in messages}
    return tuple(found[sequence] for sequence in sorted(found))


def archived_in(message: LogMessage) -> JobArchived | None:
    """The event, if the message is one that says where a job is archived."""
    if message.headers.get("ce-type") != JobArchived.TYPE:
        return None
    recorded = unseal_or_none(message.subject, message.headers, message.data, sequence=message.sequence)
    return recorded.event if recorded is not None and isinstance(recorded.event, JobArchived) else None
