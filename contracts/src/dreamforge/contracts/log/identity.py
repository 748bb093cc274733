"""Which log it is: a number in a stream means something only together with the identity of that stream. Pure."""

from dataclasses import dataclass

OWNER_KEY = "dreamforge.owner"
LOG_ID_KEY = "dreamforge.log_id"
OWNER = "dreamforge"


@dataclass(frozen=True, slots=True)
class EventPlace:
    """An event by its place in JOBS and its CloudEvents id."""

    sequence: int
    event_id: str


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """A stream now: its identity ("" if it was never marked), its last sequence, an event of it that was asked for."""

    log_id: str
    last_sequence: int
    event: EventPlace | None = None


@dataclass(frozen=True, slots=True)
class TablesPlace:
    """What the read tables have of a stream: its identity (None: never recorded), the checkpoint, the newest event."""

    log_id: str | None
    sequence: int
    event: EventPlace | None = None


def difference(tables: TablesPlace, log: StreamPlace) -> str | None:
    """Why the tables cannot have been made from this stream; None where nothing speaks against it.

    The identity finds a log that was made anew, the newest event one that was restored from an older copy and has
    grown since. An event that the log has no more says nothing: its job was erased.

    >>> difference(TablesPlace("a", 9), StreamPlace("b", 12))
    'the tables were made from log a, and this is log b'
    >>> difference(TablesPlace(None, 9), StreamPlace("b", 4))
    'the tables contain it up to sequence 9, and it ends at 4'
    >>> difference(TablesPlace("b", 9, EventPlace(9, "x")), StreamPlace("b", 12, EventPlace(9, "y")))
    'at sequence 9 the tables have event x, and the log has y'
    >>> difference(TablesPlace("b", 9, EventPlace(9, "x")), StreamPlace("b", 12))
    """
    if tables.log_id is not None and tables.log_id != log.log_id:
        return f"the tables were made from log {tables.log_id}, and this is log {log.log_id or 'without identity'}"
    if tables.sequence > log.last_sequence:
        return f"the tables contain it up to sequence {tables.sequence}, and it ends at {log.last_sequence}"
    if tables.event is not None and log.event not in (None, tables.event):
        found = f"has {log.event.event_id or 'one without an id'}"
        return f"at sequence {tables.event.sequence} the tables have event {tables.event.event_id}, and the log {found}"
    return None
