"""How much is in the archive, and what of ended jobs is in the log, for people and scripts."""

from dataclasses import dataclass
from datetime import datetime

from dreamforge.contracts.log.streams import JOBS
from dreamforge.projector.maintenance.live_tables import open_bus
from dreamforge.runtime.storage.objects import ARCHIVE, ARCHIVE_OPEN, ObjectStore
from dreamforge.runtime.storage.postgres import connect
from dreamforge.runtime.storage.settings import StorageSettings

COUNTS = b"""SELECT count(archived_at), count(finished_at) FILTER (WHERE archived_at IS NULL),
min(finished_at) FILTER (WHERE archived_at IS NULL) FROM jobs"""


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """The archive now. `unfinished_objects` are those whose jobs have not all left the log yet: 0 most of the time."""

    archived_jobs: int
    ended_jobs_in_log: int
    oldest_ended_at: datetime | None
    objects: int
    object_bytes: int
    unfinished_objects: int
    log_messages: int
    log_subjects: int


async def archive_status(settings: StorageSettings) -> ArchiveStatus:
    """Ask tables, bucket and log. Errors: DependencyAway, ApiError, psycopg.OperationalError."""
    objects = ObjectStore(settings)
    async with await connect(settings.database_url.get_secret_value(), name="dreamforge-archive") as connection:
        row = await (await connection.execute(COUNTS)).fetchone()
    assert row is not None, "an aggregate has one row"
    stored, opened = await objects.listed(ARCHIVE), await objects.listed(ARCHIVE_OPEN)
    async with open_bus(settings, "archive") as bus:
        state = (await bus.request(f"$JS.API.STREAM.INFO.{JOBS.name}", None))["state"]
    return ArchiveStatus(
        archived_jobs=int(str(row[0])),
        ended_jobs_in_log=int(str(row[1])),
        oldest_ended_at=row[2] if isinstance(row[2], datetime) else None,
        objects=len(stored),
        object_bytes=sum(found.size_bytes for found in stored),
        unfinished_objects=len(opened),
        log_messages=int(state["messages"]),
        log_subjects=int(state.get("num_subjects", 0)),
    )
