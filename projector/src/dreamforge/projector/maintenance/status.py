"""How far the projection is, for people and scripts. Postgres and NATS are asked, not the projector."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from dreamforge.contracts.errors import OtherLog
from dreamforge.projector.maintenance.live_tables import open_bus
from dreamforge.projector.maintenance.shadow_tables import MAINTENANCE_LOCK
from dreamforge.projector.writing.folds import all_folds
from dreamforge.projector.writing.same_log import refuse_other_log
from dreamforge.projector.writing.session import OF_ADVISORY_LOCK, schema_of, writer_lock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.storage.postgres import connect
from dreamforge.runtime.storage.settings import StorageSettings


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream: its last sequence, the checkpoint of the tables, and when that last moved."""

    stream: str
    checkpoint: int
    last_sequence: int
    moved_at: datetime | None

    @property
    def lag_messages(self) -> int:
        """How many messages the tables have not folded yet."""
        return max(0, self.last_sequence - self.checkpoint)


@dataclass(frozen=True, slots=True)
class ProjectionStatus:
    """All streams; how many projectors write (0 or 1) and wait; whether tables are being rebuilt or verified."""

    streams: tuple[StreamStatus, ...]
    writing: int
    standing_by: int
    maintenance: bool
    other_log: str = ""
    """Why the tables and the log do not belong together; "" when nothing speaks against it."""


async def status(settings: StorageSettings) -> ProjectionStatus:
    """Ask how far the projection is. Errors: DependencyAway, ApiError, psycopg.Error when one is unavailable."""
    url = settings.database_url.get_secret_value()
    async with await connect(url, name="dreamforge-status") as connection:
        checkpoints = await _checkpoints(connection)
        writing, standing_by = await _sessions(connection, writer_lock(await schema_of(connection)))
        maintenance, _ = await _sessions(connection, MAINTENANCE_LOCK)
        async with open_bus(settings, "status") as bus:
            ends = {fold.stream: await last_sequence(bus, fold.stream) for fold in all_folds()}
            other_log = await _other_log(bus, connection) if checkpoints else ""
    streams = []
    for stream, end in ends.items():
        sequence, at = checkpoints.get(stream, (0, None))
        streams.append(StreamStatus(stream, sequence, end, at))
    return ProjectionStatus(tuple(streams), writing, standing_by, bool(maintenance), other_log)


async def _other_log(bus: Bus, connection: "AsyncConnection[Any]") -> str:
    try:
        await refuse_other_log(bus, connection)
    except OtherLog as error:
        return str(error)
    return ""


async def _checkpoints(connection: "AsyncConnection[Any]") -> dict[str, tuple[int, datetime | None]]:
    """By stream; none in a database that was never migrated."""
    row = await (await connection.execute("SELECT to_regclass('checkpoints')")).fetchone()
    if row is None or row[0] is None:
        return {}
    cursor = await connection.execute("SELECT stream, sequence, at FROM checkpoints")
    return {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}


async def _sessions(connection: "AsyncConnection[Any]", lock: int) -> tuple[int, int]:
    """How many sessions hold an advisory lock, and how many wait for it."""
    cursor = await connection.execute(
        "SELECT count(*) FILTER (WHERE granted), count(*) FILTER (WHERE NOT granted) FROM pg_locks"
        f" WHERE {OF_ADVISORY_LOCK}",
        (lock,),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row[0], row[1]
