"""Archiving a job: its events move from the log to an object, once it is over. Pure."""

from dataclasses import dataclass
from datetime import datetime

from dreamforge.contracts.events import JobArchived
from dreamforge.contracts.jobs.attempts import Events
from dreamforge.contracts.jobs.state import JobState


@dataclass(frozen=True, slots=True)
class ArchivePlace:
    """Where the events of a job are stored: some bytes of an object, and what they hold."""

    object_key: str
    offset_bytes: int
    size_bytes: int
    sha256: str
    events: int
    first_sequence: int
    last_sequence: int


@dataclass(frozen=True, slots=True)
class ArchiveJob:
    """The events of the job are stored at this place, and may leave the log."""

    now: datetime
    place: ArchivePlace


def decide_archival(state: JobState, command: ArchiveJob) -> Events:
    """The event that names the place; () for a job that is open, hidden, or in the archive already."""
    if not state.terminal or state.hidden or state.archived:
        return ()
    place = command.place
    return (
        JobArchived(
            at=command.now,
            object_key=place.object_key,
            offset_bytes=place.offset_bytes,
            size_bytes=place.size_bytes,
            sha256=place.sha256,
            events=place.events,
            first_sequence=place.first_sequence,
            last_sequence=place.last_sequence,
        ),
    )
