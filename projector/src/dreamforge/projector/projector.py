"""Holds a Postgres session, becomes the writer, folds all streams; starts over when the session or NATS is lost."""

import asyncio
from contextlib import suppress
from enum import StrEnum

import psycopg
from loguru import logger
from prometheus_client import Gauge

from dreamforge.contracts.errors import ArchiveBroken, DependencyAway, LogReplaced, NotOurs, OtherLog
from dreamforge.contracts.log import streams
from dreamforge.contracts.log.identity import difference
from dreamforge.projector.folding.decode import Decoded
from dreamforge.projector.parking import Park
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.writing import statements
from dreamforge.projector.writing.folds import Fold, all_folds
from dreamforge.projector.writing.refold import refold
from dreamforge.projector.writing.same_log import log_place, refuse_other_log, require_same
from dreamforge.projector.writing.session import Fenced, Session
from dreamforge.projector.writing.stream_projection import StreamProjection
from dreamforge.runtime import clock
from dreamforge.runtime.log.archived import NO_ARCHIVE, ArchiveReader
from dreamforge.runtime.log.bus import ApiError, Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.tasks import run_until_first
from dreamforge.runtime.storage.postgres import connect

WRITING = Gauge("forge_projector_writing", "1 while this process is the one that writes the read tables")
# A session that wrote something or lasted this long was healthy: the next one is tried at once, without backoff.
HEALTHY_SECONDS = 1.0
# A batch takes well under a second; after this, Postgres is unhealthy, and the batch will be folded again.
FINISH_SECONDS = 5.0


class Role(StrEnum):
    """What this process does with the read tables."""

    DISCONNECTED = "disconnected"
    STANDBY = "standby"
    WRITING = "writing"


SESSION_LOST = (psycopg.Error, Fenced, DependencyAway, ArchiveBroken, ApiError, OtherLog, NotOurs, LogReplaced, OSError)


class Projector:
    """Keeps the read tables equal to the log for as long as it runs."""

    def __init__(self, settings: ProjectorSettings, bus: Bus, park: Park, archive: ArchiveReader = NO_ARCHIVE) -> None:
        self._settings = settings
        self._bus = bus
        self._park = park
        self._archive = archive
        self._session: Session | None = None
        self._jobs: StreamProjection | None = None
        self._wrote = False
        self.role = Role.DISCONNECTED
        self.problem = "not connected yet"
        self.other_log: OtherLog | None = None
        self.started = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled: wait for what is unavailable, and fold on from the checkpoints of the tables."""
        while True:
            async for attempt in retry.backoff("a Postgres session"):
                began, self._wrote = clock.monotonic_seconds(), False
                try:
                    await self._hold_session()
                except SESSION_LOST as error:
                    self._lost(error, attempt)
                if self._wrote or clock.monotonic_seconds() - began > HEALTHY_SECONDS:
                    break

    async def finish(self) -> None:
        """Let the current batch be committed and begin no other one; then `run` may be cancelled."""
        if self._session is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._session.busy.acquire(), FINISH_SECONDS)

    async def check(self) -> None:
        """Readiness: whether this process writes, or stands by to, and Postgres answers. Errors: DependencyAway."""
        if self.role is Role.DISCONNECTED and self.other_log is None:
            raise DependencyAway(dependency="postgres", reason=self.problem)
        try:
            # A session of its own: the one that writes may be busy, the one that stands by waits for its lock.
            async with await connect(
                self._settings.database_url.get_secret_value(), name="dreamforge-ready"
            ) as session:
                await session.execute(statements.CHECKPOINT, (streams.JOBS.name,))
        except psycopg.Error as error:
            raise DependencyAway(dependency="postgres", reason=" ".join(str(error).split())) from error

    async def check_log(self) -> None:
        """Readiness: whether the tables and the log belong together. Errors: OtherLog."""
        if self.other_log is not None:
            raise self.other_log

    async def refold(self, job_id: str) -> list[Decoded]:
        """Fold one job again from the log, after the cause of a failure was fixed; returns what still cannot be read.

        Errors: DependencyAway when this process is not the writer, or NATS is unavailable; psycopg.Error.
        """
        if self._jobs is None:
            raise DependencyAway(dependency="postgres", reason="another projector writes")
        return await refold(self._bus, self._jobs, job_id)

    def _lost(self, error: Exception, attempt: int) -> None:
        self.problem = " ".join(str(error).split()) or type(error).__name__
        self.role, self._jobs = Role.DISCONNECTED, None
        self.other_log = error if isinstance(error, OtherLog) else None
        WRITING.set(0)
        logger.warning("not projecting: {} (try {})", self.problem, attempt)

    async def _hold_session(self) -> None:
        url = self._settings.database_url.get_secret_value()
        async with Session.open(url, name="dreamforge-projector") as session:
            if not await session.try_become_writer():
                await refuse_other_log(self._bus, session.connection)
                logger.info("standing by: another projector writes")
                self._enter(Role.STANDBY)
                await session.become_writer()
            await self._write(session)

    async def _write(self, session: Session) -> None:
        await session.prepare()
        projections = [await self._projection(session, fold) for fold in all_folds()]
        self._jobs = projections[0]
        WRITING.set(1)
        checkpoints = ", ".join(f"{p.fold.stream} {p.sequence}" for p in projections)
        logger.info("writing the read tables from {}", checkpoints)
        self._enter(Role.WRITING)
        began = [projection.sequence for projection in projections]
        try:
            await run_until_first(session.keep_lease(), *(projection.run() for projection in projections))
        finally:
            self._wrote = began != [projection.sequence for projection in projections]

    def _enter(self, role: Role) -> None:
        self.role, self.problem, self.other_log = role, "", None
        if not self.started.is_set():
            self.started.set()
            logger.info("projector is ready")

    async def _projection(self, session: Session, fold: Fold) -> StreamProjection:
        checkpoint = await self._checkpoint(session, fold.stream)
        return StreamProjection(
            session=session,
            fold=fold,
            follower=Follower(self._bus, fold.stream, after_sequence=checkpoint),
            park=self._park,
            batch_messages=self._settings.projector_batch_messages,
            pause_seconds=self._settings.projector_step_seconds if fold.stream == streams.STEPS.name else 0.0,
            sequence=checkpoint,
            archive=self._archive,
        )

    async def _checkpoint(self, session: Session, stream: str) -> int:
        """The checkpoint of a stream, if it counts in the log that is there now.

        STEPS may lose its end, or itself, in a crash of the broker, and then uses those sequences again.
        Errors: OtherLog for every other stream; DependencyAway, NotOurs.
        """
        now = await stream_place(self._bus, stream)
        tables = await session.checkpoint(stream, now.log_id)
        if stream == streams.STEPS.name and difference(tables, now):
            newest = min(tables.sequence, now.last_sequence) if tables.log_id in (None, now.log_id) else 0
            await session.rewind_steps(tables.sequence, newest, now.log_id)
            return newest
        require_same(stream, tables, await log_place(self._bus, stream, tables))
        if tables.log_id is None:
            await session.identify(stream, now.log_id)
        return tables.sequence
