"""What rebuild and verify share: one of them at a time, a fresh fold beside the live one, the live one held still."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import AsyncConnection, sql

from dreamforge import migrations
from dreamforge.contracts.errors import Conflict, DependencyAway
from dreamforge.contracts.log.streams import STEPS
from dreamforge.projector.folding.folds import Fold, all_folds
from dreamforge.projector.gc_pause import seldom_collecting
from dreamforge.projector.parking import leave_out
from dreamforge.projector.writing.ddl import create_indexes, create_tables
from dreamforge.projector.writing.session import WRITER_LOCK, Connection, Session, patient
from dreamforge.projector.writing.stream_projection import StreamProjection
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log import bus as nats
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower, last_sequence
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.service.tasks import run_all, run_until_first

# Next to the writer's: whoever holds it is the only one that builds tables beside the live ones.
MAINTENANCE_LOCK = WRITER_LOCK + 1
# Larger than a live batch: nobody waits for a single event here, and a merge costs less a row.
BATCH_MESSAGES = 20_000
REPORT_SECONDS = 0.5
CONNECT_SECONDS = 5.0
# Postgres makes autovacuum leave a table for whoever has waited deadlock_timeout (1 s) for it. Its lock stands in the
# way of no reader and no writer, so nobody waits for us meanwhile; holding it keeps the next vacuum away.
VACUUM_LEAVES_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a rebuild or a verification stands, for whoever waits for it. Sequences are those of JOBS."""

    stage: str
    sequence: int = 0
    target: int = 0
    elapsed_seconds: float = 0.0


OnProgress = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Tells nobody."""


class MaintenanceRunning(Conflict):
    """A rebuild or a verification is at work already."""

    code = "maintenance_running"

    def __str__(self) -> str:
        return "another rebuild or verification of the read tables is running: wait for it to end"


@dataclass(slots=True)
class Fresh:
    """The same tables in a schema of their own, folded from the beginning of the log."""

    session: Session
    bus: Bus
    schema: str
    projections: list[StreamProjection] = field(default_factory=list)

    async def fold_up_to(self, places: dict[str, int]) -> None:
        """Fold each stream exactly up to a sequence (or to its end, if that comes first)."""
        await self._begin([self._projection(fold, places.get(fold.stream, 0)) for fold in all_folds()])
        await run_all(*(projection.run() for projection in self.projections))

    async def follow(self) -> "asyncio.Task[None]":
        """Begin to fold all streams for ever; the task ends only by failing."""
        await self._begin([self._projection(fold, None) for fold in all_folds()])
        runs = run_until_first(*(projection.run() for projection in self.projections))
        return asyncio.create_task(runs, name=f"follow into {self.schema}")

    async def _begin(self, projections: list[StreamProjection]) -> None:
        for projection in projections:
            projection.sequence = await self.session.checkpoint(projection.fold.stream)
            projection.follower.after_sequence = projection.sequence
        self.projections = projections

    def _projection(self, fold: Fold, until: int | None) -> StreamProjection:
        """Of STEPS only the newest step of a job makes a row, so nothing else is read from the beginning."""
        follower = Follower(self.bus, fold.stream, latest_only=fold.stream == STEPS.name)
        return StreamProjection(self.session, fold, follower, leave_out, BATCH_MESSAGES, until=until)

    async def reached(self, places: dict[str, int]) -> None:
        """Wait until every stream that `follow` follows has passed its place."""
        for projection in self.projections:
            stream = projection.fold.stream
            await projection.reached(min(places.get(stream, 0), await last_message(self.bus, stream)))

    @property
    def jobs_sequence(self) -> int:
        """How far JOBS is."""
        return self.projections[0].sequence if self.projections else 0

    async def index(self) -> None:
        """Make the indexes that folding does without."""
        async with self.session.busy:
            await create_indexes(self.session.connection)


@asynccontextmanager
async def log_of(settings: CommonSettings, purpose: str) -> AsyncIterator[Bus]:
    """The log, for somebody who will not wait long. Errors: DependencyAway."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            bus = await nats.connect(settings.nats_url, f"{purpose}-{ids.new_id()}")
    except TimeoutError:
        reason = f"no connection within {CONNECT_SECONDS:g} s"
        raise DependencyAway(dependency="nats", reason=reason) from None
    try:
        yield bus
    finally:
        await bus.close()


@asynccontextmanager
async def fresh_tables(settings: CommonSettings, bus: Bus, schema: str) -> AsyncIterator[Fresh]:
    """Empty tables in `schema`, which is dropped in the end; the live ones are brought to the same version first.

    Errors: MaintenanceRunning, UnknownSchemaVersion.
    """
    url = settings.database_url.get_secret_value()
    async with Session.open(url, name=f"dreamforge-{schema}", schema=schema) as session:
        await asyncio.to_thread(migrations.upgrade, url)
        if not await session.try_become_writer(MAINTENANCE_LOCK):
            raise MaintenanceRunning
        drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema))
        await session.connection.execute(drop)
        await session.connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        await create_tables(session.connection)
        await session.prepare()
        lease = asyncio.create_task(session.keep_lease(), name=f"lease of {schema}")
        try:
            with seldom_collecting():
                yield Fresh(session, bus, schema)
        finally:
            async with session.busy:
                lease.cancel()
            with suppress(psycopg.Error):
                await session.connection.execute(drop)
                # A closed session gives its locks back a little later: the next maintenance may not wait for that.
                await session.connection.execute("SELECT pg_advisory_unlock(%s)", (MAINTENANCE_LOCK,))


async def last_message(bus: Bus, stream: str) -> int:
    """The sequence of the newest message that a stream still holds; 0 when it holds none (they may have aged)."""
    state = (await bus.request(f"$JS.API.STREAM.INFO.{stream}", None))["state"]
    return int(state["last_seq"]) if state["messages"] else 0


async def live_places(connection: Connection, bus: Bus) -> dict[str, int]:
    """Where the live tables are, stream by stream; never past the end of the log."""
    found = await (await connection.execute("SELECT stream, sequence FROM checkpoints")).fetchall()
    return {str(stream): min(int(str(place)), await last_sequence(bus, str(stream))) for stream, place in found}


@asynccontextmanager
async def held_still(
    settings: CommonSettings, lock_seconds: float, *, not_vacuumed: Sequence[sql.Composable] = ()
) -> AsyncIterator[Connection]:
    """A transaction during which no checkpoint, hence no row, of the live tables can move; readers go on.

    `not_vacuumed`: tables that the caller is going to lock for itself alone.
    Errors: psycopg.errors.LockNotAvailable when a lock does not come within `lock_seconds`.
    """
    url = patient(settings.database_url.get_secret_value())
    connection = await AsyncConnection.connect(url, autocommit=True, application_name="dreamforge-hold")
    async with connection, connection.transaction():
        await _wait_at_most(connection, VACUUM_LEAVES_SECONDS)
        for table in not_vacuumed:
            await connection.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(table))
        await _wait_at_most(connection, lock_seconds)
        await connection.execute("LOCK TABLE checkpoints IN EXCLUSIVE MODE")
        yield connection


async def _wait_at_most(connection: Connection, seconds: float) -> None:
    """For each lock that this transaction asks for from now on."""
    await connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{int(seconds * 1000)}ms",))


@asynccontextmanager
async def reporting(stage: str, fresh: Fresh, target: int, on_progress: OnProgress) -> AsyncIterator[None]:
    """Say how far the fresh tables are, at once and twice a second, while the block runs."""
    began = clock.monotonic_seconds()

    def say() -> None:
        on_progress(Progress(stage, fresh.jobs_sequence, target, clock.monotonic_seconds() - began))

    async def tick() -> None:
        while True:
            say()
            await asyncio.sleep(REPORT_SECONDS)

    ticking = asyncio.create_task(tick())
    try:
        yield
        say()
    finally:
        ticking.cancel()
