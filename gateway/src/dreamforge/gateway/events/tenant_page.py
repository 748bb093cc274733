"""A page of the events of tenants as the read tables have them: accepted, in the order of the log."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loguru import logger
from prometheus_client import Counter
from pydantic import ValidationError
from sqlalchemy import RowMapping

from dreamforge.contracts.events import ERASURE_EVENTS, JobArchived, JobEvent
from dreamforge.contracts.log.envelope import BY_TYPE
from dreamforge.gateway.events.sse import SseEvent, sse_event
from dreamforge.gateway.read import queries
from dreamforge.gateway.read.database import Database

# Events of one read of the tables.
PAGE_EVENTS = 500
# Of the store of a job, not of its course.
UNTOLD: tuple[type[JobEvent], ...] = (*ERASURE_EVENTS, JobArchived)

READS = Counter("forge_tenant_stream_reads_total", "Reads of the tables for event streams of all jobs of a tenant")


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events with their tenants. `position`: up to this sequence nothing else is to be told."""

    events: Sequence[tuple[str, SseEvent]]
    position: int
    more: bool = False
    """There may be another page already."""


async def read_page(database: Database, tenants: Iterable[str], after: int, types: frozenset[str]) -> EventPage:
    """The next events of tenants after a sequence; of these types, where some are named. Errors: DependencyAway."""
    READS.inc()
    return page_of(await database.rows(queries.events_after(tenants, after, types, PAGE_EVENTS)), after)


def page_of(rows: Sequence[RowMapping], after: int) -> EventPage:
    """The events of rows, and how far they go."""
    found = [row for row in rows if row["sequence"]]
    events = [(row["tenant"], event) for row in found if (event := _event_of(row)) is not None]
    if len(rows) == PAGE_EVENTS:
        return EventPage(events, found[-1]["sequence"], more=True)
    # As the same read has it: after a failover the tables may be behind what was notified before.
    looked, reached = (rows[0]["looked"], rows[0]["reached"]) if rows else (0, 0)
    return EventPage(events, max(looked, after), more=looked < reached)


def _event_of(row: RowMapping) -> SseEvent | None:
    """None: it is not told, or only a newer release can read it, whose projector wrote it."""
    kind = BY_TYPE.get(row["type"])
    if kind is None or not issubclass(kind, JobEvent) or issubclass(kind, UNTOLD):
        return None
    try:
        return sse_event(row["job_id"], row["sequence"], kind.model_validate(row["payload"]))
    except ValidationError as error:
        logger.warning("event {} is not told on streams of tenants: {}", row["sequence"], error)
        return None
