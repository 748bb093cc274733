"""What maintenance needs of the live side: a short connection to the log, the checkpoints, a pause of all writes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from psycopg import sql

from dreamforge.runtime import ids
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.command_bus import command_bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.storage.postgres import Connection, connect
from dreamforge.runtime.storage.settings import DatabaseSettings, StorageSettings

# Postgres makes autovacuum release a table that another session has waited deadlock_timeout (1 s) for. The lock asked
# for here blocks no reader and no writer; while it is held, no new vacuum of the table starts.
VACUUM_YIELDS_SECONDS = 3.0


def open_bus(settings: DatabaseSettings, purpose: str) -> AbstractAsyncContextManager[Bus]:
    """A connection to the log for a command. Errors: see `command_bus`."""
    return command_bus(settings, f"{purpose}-{ids.new_id()}")


async def live_checkpoints(connection: Connection, bus: Bus) -> dict[str, int]:
    """The checkpoint of the live tables by stream; never past the end of the log."""
    found = await (await connection.execute("SELECT stream, sequence FROM checkpoints")).fetchall()
    return {str(stream): min(int(str(sequence)), await last_sequence(bus, str(stream))) for stream, sequence in found}


@asynccontextmanager
async def writes_paused(
    settings: StorageSettings, lock_seconds: float, *, not_vacuumed: Sequence[sql.Composable] = ()
) -> AsyncIterator[Connection]:
    """A transaction during which no checkpoint, hence no row, of the live tables can change; readers continue.

    `not_vacuumed`: tables that the caller is going to lock exclusively.
    Errors: psycopg.errors.LockNotAvailable when a lock is not granted within `lock_seconds`.
    """
    url = settings.database_url.get_secret_value()
    connection = await connect(url, name="dreamforge-hold")
    async with connection, connection.transaction():
        await _limit_lock_waits(connection, VACUUM_YIELDS_SECONDS)
        for table in not_vacuumed:
            await connection.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(table))
        await _limit_lock_waits(connection, lock_seconds)
        await connection.execute("LOCK TABLE checkpoints IN EXCLUSIVE MODE")
        yield connection


async def _limit_lock_waits(connection: Connection, seconds: float) -> None:
    """For each lock that this transaction asks for from now on."""
    await connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{int(seconds * 1000)}ms",))
