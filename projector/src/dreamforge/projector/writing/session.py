"""The one Postgres session that writes the read tables: the process whose session holds the lock is the writer.

The lock belongs to the session, so a writer that loses its connection loses the lock with it and cannot write any
more. Every transaction also advances its stream's checkpoint from where this process left it (fencing); if that
fails, another process has written or the tables were swapped: nothing is written, and the fold starts again from the
checkpoint in the tables.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

import psycopg
from psycopg import AsyncCursor

from dreamforge.contracts.log.identity import EventPlace, TablesPlace
from dreamforge.contracts.log.streams import JOBS, STEPS
from dreamforge.contracts.tables import DEFAULT_SCHEMA, checkpoint_channel
from dreamforge.projector.folding.project import Row
from dreamforge.projector.writing import statements
from dreamforge.runtime import clock
from dreamforge.runtime.storage.postgres import (
    Connection,
    backend_pid,
    connect,
    require_own_session,
    shared_session,
)

# Any constant that is not used otherwise in this database; ASCII of "forgepro".
WRITER_LOCK = 0x666F72676570726F
# pg_locks shows a key of 64 bits in two halves.
OF_ADVISORY_LOCK = (
    "locktype = 'advisory' AND objsubid = 1 AND (classid::bigint << 32) + objid::bigint = %s"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
# A writer that hangs (stopped, cut off) loses its session, and the lock with it, after this long.
LEASE_SECONDS = 10
PING_SECONDS = 2.0
# Below this many rows, one statement per row in one pipeline is faster than COPY and merge.
COPY_FROM_ROWS = 24

Cursor = AsyncCursor[tuple[object, ...]]


def writer_lock(schema: str) -> int:
    """The advisory lock of the writer of the tables in a schema: a database may have those of several installations.

    >>> writer_lock("public") == WRITER_LOCK, writer_lock("acme") == writer_lock("public")
    (True, False)
    """
    return WRITER_LOCK if schema == DEFAULT_SCHEMA else WRITER_LOCK ^ zlib.crc32(schema.encode()) << 8


async def schema_of(connection: Connection) -> str:
    """The schema in which a session's unqualified names are."""
    row = await (await connection.execute("SELECT current_schema()")).fetchone()
    return str(row[0]) if row else ""


class Fenced(Exception):
    """The checkpoint is not where this writer left it: another process wrote."""


@dataclass(slots=True)
class Session:
    """One connection, one transaction at a time."""

    connection: Connection
    pid: int
    schema: str
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    @asynccontextmanager
    async def open(cls, database_url: str, *, name: str, schema: str | None = None) -> AsyncIterator[Self]:
        """Connect; `schema` is where the tables are, else the database's own search path says.

        Errors: DatabaseUnfit, psycopg.OperationalError when Postgres is unavailable.
        """
        connection = await connect(database_url, name=name)
        try:
            pid = await require_own_session(connection, database_url)
            if schema is not None:
                await connection.execute("SELECT set_config('search_path', %s, false)", (schema,))
            # Safe: rows and checkpoint are lost together, and what is lost is folded again. It gives 12 times the rate.
            await connection.execute("SET synchronous_commit = off")
            yield cls(connection, pid, schema or await schema_of(connection))
        finally:
            with suppress(psycopg.Error):
                await connection.close()

    async def try_become_writer(self, lock: int | None = None) -> bool:
        """Take a lock if it is free; None: that of the writer of the tables in this session's schema."""
        lock = lock or writer_lock(self.schema)
        row = await (await self.connection.execute("SELECT pg_try_advisory_lock(%s)", (lock,))).fetchone()
        return bool(row and row[0])

    async def become_writer(self) -> None:
        """Wait for the lock, however long; the server grants it at once when its holder's session ends."""
        await self.connection.execute("SELECT pg_advisory_lock(%s)", (writer_lock(self.schema),))

    async def prepare(self) -> None:
        """Staging tables, usage that was not counted yet, and the lease of this session; call it as the writer."""
        for staged in statements.STAGED:
            await self.connection.execute(staged.make_staging)
        await self._count_usage()
        lease = f"{LEASE_SECONDS}s"
        await self.connection.execute(
            "SELECT set_config(name, %s, false) FROM pg_settings WHERE name = ANY(%s)",
            (lease, ["idle_session_timeout", "idle_in_transaction_session_timeout"]),
        )

    async def _count_usage(self) -> None:
        """Count once, after the writer of a release that did not: what follows is added batch by batch."""
        async with self.connection.transaction(), self.connection.cursor() as cursor:
            await cursor.execute(statements.IS_USAGE_COUNTED)
            if await cursor.fetchone() is None:
                for statement in statements.COUNT_USAGE:
                    await cursor.execute(statement)

    async def keep_lease(self) -> None:
        """Keep the session from being idle.

        Errors: psycopg.OperationalError as soon as it is lost, DatabaseUnfit when a pooler gave it to others.
        """
        while True:
            await asyncio.sleep(PING_SECONDS)
            async with self.busy:
                if await backend_pid(self.connection) != self.pid:
                    raise shared_session()

    async def checkpoint(self, stream: str, log_id: str, at_first: int = 0) -> TablesPlace:
        """What is in the tables of a stream; the row of its checkpoint is made, with `at_first`, if it is missing."""
        async with self.busy:
            await self.connection.execute(statements.NEW_CHECKPOINT, (stream, at_first, clock.now(), log_id))
            return await tables_place(self.connection, stream)

    async def identify(self, stream: str, log_id: str) -> None:
        """Record that the tables are those of this log, where that was never recorded."""
        async with self.busy:
            await self.connection.execute(statements.IDENTIFY_CHECKPOINT, (log_id, stream))

    async def rewind_steps(self, before: int, newest: int, log_id: str) -> None:
        """Let STEPS continue from `newest`: its lost end will be written again under the same sequences."""
        async with self.busy, self.connection.transaction():
            await self.connection.execute("DELETE FROM steps WHERE sequence > %s", (newest,))
            await self.connection.execute(
                statements.REWIND_CHECKPOINT, (newest, clock.now(), log_id, STEPS.name, before)
            )

    @asynccontextmanager
    async def advancing(self, stream: str, before: int, after: int) -> AsyncIterator[Cursor]:
        """A transaction that advances a checkpoint and notifies the listeners of it.

        Errors: Fenced when the checkpoint was not `before`; then nothing is written.
        """
        async with self.connection.transaction(), self.connection.cursor() as cursor:
            await cursor.execute(statements.MOVE_CHECKPOINT, (after, clock.now(), stream, before))
            if cursor.rowcount != 1:
                raise Fenced(f"the checkpoint of {stream} is no longer {before}")
            yield cursor
            await cursor.execute(statements.NOTIFY, (checkpoint_channel(self.schema), f"{stream} {after}"))


async def tables_place(connection: Connection, stream: str) -> TablesPlace:
    """What the tables have of a stream, of JOBS with its newest event. A stream without checkpoint is at 0."""
    row = await (await connection.execute(statements.CHECKPOINT, (stream,))).fetchone()
    if row is None:
        return TablesPlace(None, 0)
    sequence, log_id = int(str(row[0])), None if row[1] is None else str(row[1])
    newest = None
    if stream == JOBS.name:
        newest = await (await connection.execute(statements.NEWEST_EVENT, (sequence,))).fetchone()
    event = EventPlace(int(str(newest[0])), str(newest[1])) if newest else None
    return TablesPlace(log_id, sequence, event)


async def upsert_rows(cursor: Cursor, upsert: statements.Upsert, rows: list[Row]) -> None:
    """Insert or replace rows by primary key; each key at most once among them."""
    if not rows:
        return
    if len(rows) < COPY_FROM_ROWS:
        await cursor.executemany(upsert.one, rows)
        return
    await copy_rows(cursor, upsert.fill_staging, rows)
    await cursor.execute(upsert.from_staging)


async def copy_rows(cursor: Cursor, copy: bytes, rows: list[Row]) -> None:
    """COPY rows into a table."""
    async with cursor.copy(copy) as sink:
        formatted = sink.formatter.write_row
        for row in rows:
            if block := formatted(row):  # what `sink.write_row` does, without a coroutine for each row
                await sink.write(block)
