"""A second set of the read tables, folded from the beginning of the log beside the live set, in its own schema."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from dreamforge import migrations
from dreamforge.contracts.errors import Conflict
from dreamforge.contracts.log.streams import JOBS, STEPS
from dreamforge.projector.folding.decode import decode
from dreamforge.projector.maintenance.log_range import LogRange, ranges_of
from dreamforge.projector.maintenance.range_process import RangeProcess
from dreamforge.projector.maintenance.range_worker import LEFT_MAX, RangeTask
from dreamforge.projector.parking import park_nothing
from dreamforge.projector.writing import statements
from dreamforge.projector.writing.ddl import create_indexes, create_tables
from dreamforge.projector.writing.folds import Fold, all_folds
from dreamforge.projector.writing.refold import refold
from dreamforge.projector.writing.same_log import log_place, require_same
from dreamforge.projector.writing.session import WRITER_LOCK, Session
from dreamforge.projector.writing.stream_projection import StreamProjection
from dreamforge.runtime import ids
from dreamforge.runtime.log.archived import NO_ARCHIVE, ArchiveReader
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.service.gc_tuning import infrequent_gc
from dreamforge.runtime.service.tasks import run_all, run_until_first
from dreamforge.runtime.storage.job_archive import whole_objects
from dreamforge.runtime.storage.settings import StorageSettings

# The key after the writer's: the session that holds it is the only one that builds shadow tables.
MAINTENANCE_LOCK = WRITER_LOCK + 1
# Larger than a live batch: no reader waits for a single event here, and a merge costs less per row.
BATCH_MESSAGES = 20_000
PROCESSES_USUAL = 4
# Of a range: its process takes a second or two to start, in which about this many are folded.
RANGE_MESSAGES_MIN = 25_000


class MaintenanceRunning(Conflict):
    """A rebuild or a verification is running already."""

    code = "maintenance_running"

    def __str__(self) -> str:
        return "another rebuild or verification of the read tables is running: wait for it to end"


@dataclass(slots=True)
class ShadowTables:
    """The read tables in a schema of their own, and their fold."""

    session: Session
    bus: Bus
    schema: str
    settings: StorageSettings
    archive: ArchiveReader = NO_ARCHIVE
    projections: list[StreamProjection] = field(default_factory=list)
    _ranges: tuple[RangeProcess, ...] = ()

    async def fold_up_to(self, sequences: dict[str, int]) -> None:
        """Fold each stream exactly up to its sequence (or to its end, if that comes first)."""
        await self._begin([self._projection(fold, sequences.get(fold.stream, 0)) for fold in all_folds()])
        jobs = self.projections[0]
        first, *others = ranges_of(
            jobs.sequence + 1, sequences.get(JOBS.name, 0), processes_of(self.settings), RANGE_MESSAGES_MIN
        )
        if others:  # steps need the rows of their attempts, so that they come afterwards
            await self._fold_ranges(jobs, first, others)
        await run_all(*(projection.run() for projection in self.projections))

    async def _fold_ranges(self, jobs: StreamProjection, first: LogRange, others: list[LogRange]) -> None:
        """Fold the first range here and the others in processes of their own, then what these have left."""
        log_id = (await stream_place(self.bus, JOBS.name)).log_id
        self._ranges = tuple(self._process(each, log_id) for each in others)
        for process in self._ranges:
            await self.session.checkpoint(process.task.checkpoint, log_id, process.folded_up_to)
        await run_all(run_up_to(jobs, first.last), *(process.run() for process in self._ranges))
        for process in self._ranges:
            jobs.until = process.task.range.last
            await jobs.apply(decode(process.left))
            await jobs.pass_to(process.folded_up_to)
            await run_up_to(jobs, process.task.range.last)
        async with self.session.busy:
            connection = self.session.connection
            names = [process.task.checkpoint for process in self._ranges]
            await connection.execute(statements.DROP_CHECKPOINTS, (names,))
            twice = await (await connection.execute(statements.REQUESTED_TWICE)).fetchall()
        for row in twice:
            await refold(self.bus, jobs, str(row[0]))

    def _process(self, part: LogRange, log_id: str) -> RangeProcess:
        checkpoint = f"{JOBS.name} after {part.first - 1}, {ids.new_id()}"
        task = RangeTask(self.settings, self.schema, log_id, checkpoint, part, BATCH_MESSAGES, LEFT_MAX)
        return RangeProcess(task, part.first - 1)

    async def follow(self) -> "asyncio.Task[None]":
        """Begin to fold all streams continuously; the task ends only by failing."""
        await self._begin([self._projection(fold, None) for fold in all_folds()])
        runs = run_until_first(*(projection.run() for projection in self.projections))
        return asyncio.create_task(runs, name=f"follow into {self.schema}")

    async def _begin(self, projections: list[StreamProjection]) -> None:
        for projection in projections:
            stream = projection.fold.stream
            log = await stream_place(self.bus, stream)
            tables = await self.session.checkpoint(stream, log.log_id)
            require_same(stream, tables, log if tables.event is None else await log_place(self.bus, stream, tables))
            projection.sequence = projection.follower.after_sequence = tables.sequence
        self.projections = projections

    def _projection(self, fold: Fold, until: int | None) -> StreamProjection:
        """Of STEPS only the newest step of a job makes a row, so nothing else is read from the beginning."""
        follower = Follower(self.bus, fold.stream, latest_only=fold.stream == STEPS.name)
        return StreamProjection(
            self.session, fold, follower, park_nothing, BATCH_MESSAGES, until=until, archive=self.archive
        )

    async def reached(self, sequences: dict[str, int]) -> None:
        """Wait until every stream that is followed has been folded up to its sequence."""
        for projection in self.projections:
            stream = projection.fold.stream
            await projection.reached(min(sequences.get(stream, 0), await last_held_sequence(self.bus, stream)))

    def jobs_sequence(self) -> int:
        """Up to which sequence JOBS has been folded; while ranges are, as if what is folded came first."""
        here = self.projections[0].sequence if self.projections else 0
        ahead = (each.folded_up_to - max(here, each.task.range.first - 1) for each in self._ranges)
        return here + sum(max(0, messages) for messages in ahead)

    async def create_indexes(self) -> None:
        """Create the indexes that folding does not need."""
        async with self.session.busy:
            await create_indexes(self.session.connection)


@asynccontextmanager
async def shadow_tables(settings: StorageSettings, bus: Bus, schema: str) -> AsyncIterator[ShadowTables]:
    """Empty tables in `schema`, which is dropped at the end; the live ones are migrated to the same version first.

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
            with infrequent_gc():
                yield ShadowTables(session, bus, schema, settings, whole_objects(settings))
        finally:
            async with session.busy:
                lease.cancel()
            with suppress(psycopg.Error):
                await session.connection.execute(drop)
                # A closed session releases its locks a little later; the next maintenance must not have to wait.
                await session.connection.execute("SELECT pg_advisory_unlock(%s)", (MAINTENANCE_LOCK,))


def processes_of(settings: StorageSettings) -> int:
    """How many processes fold the log."""
    return settings.rebuild_processes or min(PROCESSES_USUAL, os.cpu_count() or 1)


async def run_up_to(projection: StreamProjection, sequence: int) -> None:
    """Fold up to a sequence, from where the projection is, and no message after it."""
    projection.until, projection.follower.after_sequence = sequence, projection.sequence
    await projection.run()
    await projection.pass_to(sequence)


async def last_held_sequence(bus: Bus, stream: str) -> int:
    """The sequence of the newest message that a stream still holds; 0 when it holds none (they may have expired)."""
    state = (await bus.request(f"$JS.API.STREAM.INFO.{stream}", None))["state"]
    return int(state["last_seq"]) if state["messages"] else 0
