"""Rebuilds the read tables from the log while the live ones continue to be written and read.

Blue-green: shadow tables are folded in their own schema from sequence 0. When they have caught up, writes to the live
tables are paused for a moment, the shadow tables replace them in one transaction, and the projector's session is
ended so that it reads the new ones. Readers always see complete tables at one checkpoint.
"""

import asyncio
from dataclasses import dataclass

import psycopg
from loguru import logger
from psycopg import sql

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.tables import checkpoint_channel, metadata
from dreamforge.projector.maintenance.live_tables import live_checkpoints, open_bus, writes_paused
from dreamforge.projector.maintenance.progress import MaintenanceProgress, OnProgress, ignore_progress, reporting
from dreamforge.projector.maintenance.shadow_tables import ShadowTables, shadow_tables
from dreamforge.projector.writing.folds import all_folds
from dreamforge.projector.writing.session import OF_ADVISORY_LOCK, tables_place, writer_lock
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.service import retry
from dreamforge.runtime.storage.bucket_owner import mark, owner_of
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.storage.postgres import Connection, connect
from dreamforge.runtime.storage.settings import StorageSettings

SCHEMA = "forge_next"
# Below Postgres's deadlock_timeout (1 s), so that in a deadlock with a reader it is the swap that is aborted.
LOCK_SECONDS = 0.5
CATCH_UP_SECONDS = 10.0
SWAP_ATTEMPTS = 20
SWAP_CONFLICTS = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, TimeoutError)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did. `held_seconds` is how long writes to the live tables were paused."""

    events: int
    seconds: float
    held_seconds: float


@dataclass(eq=False)
class SwapRefused(ForgeError):
    """The shadow tables are complete, but because of readers or load they could never replace the live ones."""

    code = "swap_refused"
    attempts: int
    reason: str

    def __str__(self) -> str:
        return f"the rebuilt tables could not be put in place in {self.attempts} attempts: {self.reason}"


async def rebuild(settings: StorageSettings, on_progress: OnProgress = ignore_progress) -> Rebuilt:
    """Fold the whole log into new tables and replace the live ones with them.

    Errors: MaintenanceRunning, SwapRefused, psycopg.OperationalError and DependencyAway when Postgres or NATS is
    unavailable; the live tables are then unchanged.
    """
    began = clock.monotonic_seconds()
    async with open_bus(settings, "rebuild") as bus, shadow_tables(settings, bus, SCHEMA) as shadow:
        ends = {fold.stream: await last_sequence(bus, fold.stream) for fold in all_folds()}
        async with reporting("folding", shadow.jobs_sequence, ends["JOBS"], on_progress):
            await shadow.fold_up_to(ends)
        events = shadow.jobs_sequence()
        async with reporting("indexing", shadow.jobs_sequence, ends["JOBS"], on_progress):
            await shadow.create_indexes()
        await _take_over_bucket(settings, bus)
        held_seconds = await _replace_live_tables(settings, shadow, on_progress)
    seconds = clock.monotonic_seconds() - began
    on_progress(MaintenanceProgress("done", events, events, seconds))
    return Rebuilt(events, seconds, held_seconds)


async def _take_over_bucket(settings: StorageSettings, bus: Bus) -> None:
    """Give the bucket to this log, if it is that of the log that the live tables were made from: both are ours."""
    url = settings.database_url.get_secret_value()
    async with await connect(url, name="dreamforge-rebuild") as connection:
        before = await tables_place(connection, JOBS.name)
    now = await stream_place(bus, JOBS.name)
    if before.log_id in (None, now.log_id):
        return
    objects = ObjectStore(settings)
    if await owner_of(objects) == before.log_id:
        await mark(objects, now.log_id)
        logger.info("bucket {} belongs to log {} now; images of log {} stay", objects.bucket, now.log_id, before.log_id)


async def _replace_live_tables(settings: StorageSettings, shadow: ShadowTables, on_progress: OnProgress) -> float:
    """Follow the log until the swap succeeds; returns the seconds during which writes were paused."""
    following = await shadow.follow()
    reason = "the rebuilt tables never caught up"
    try:
        async for attempt in retry.backoff("the swap of the tables"):
            if following.done():
                following.result()
            sequence = shadow.jobs_sequence()
            on_progress(MaintenanceProgress("swapping", sequence, sequence))
            try:
                return await _swap(settings, shadow)
            except SWAP_CONFLICTS as error:
                reason = str(error) or reason
                logger.info("the swap was aborted and is tried again: {}", reason)
            if attempt >= SWAP_ATTEMPTS:
                break
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    raise SwapRefused(attempts=SWAP_ATTEMPTS, reason=reason)


async def _swap(settings: StorageSettings, shadow: ShadowTables) -> float:
    """Swap once. Errors: those of SWAP_CONFLICTS; then nothing has changed, and it can be tried again."""
    both = [sql.Identifier(*path) for name in _tables() for path in ((name,), (shadow.schema, name))]
    async with writes_paused(settings, LOCK_SECONDS, not_vacuumed=both) as live:
        began = clock.monotonic_seconds()
        checkpoints = await live_checkpoints(live, shadow.bus)
        async with asyncio.timeout(CATCH_UP_SECONDS):
            await shadow.reached(checkpoints)
        async with shadow.session.busy:  # from here on no row changes on either side
            await _swap_tables(live, shadow.schema, checkpoints)
    return clock.monotonic_seconds() - began


def _tables() -> list[str]:
    """Every table; checkpoints last, so that its readers are blocked for the shortest time."""
    return sorted(metadata.tables, key=lambda name: name == "checkpoints")


async def _swap_tables(live: Connection, schema: str, checkpoints: dict[str, int]) -> None:
    """Within the transaction that pauses writes."""
    row = await (await live.execute("SELECT current_schema()")).fetchone()
    assert row is not None
    home = sql.Identifier(str(row[0]))
    for stream, sequence in checkpoints.items():
        raised = sql.SQL("UPDATE {}.checkpoints SET sequence = %s WHERE stream = %s AND sequence < %s")
        await live.execute(raised.format(sql.Identifier(schema)), (sequence, stream, sequence))
    for name in _tables():
        table = sql.Identifier(name)
        grants = await _grants(live, name)
        await live.execute(sql.SQL("DROP TABLE {}.{}").format(home, table))
        await live.execute(sql.SQL("ALTER TABLE {}.{} SET SCHEMA {}").format(sql.Identifier(schema), table, home))
        for grant in grants:
            await live.execute(grant)
    # The sequence may have gone back, if the tables were of another log.
    notify = "SELECT pg_notify(%s, stream || ' ' || sequence) FROM checkpoints"
    await live.execute(notify, (checkpoint_channel(str(row[0])),))
    # The projector caches jobs of the old tables: its session is ended, and the next one reads the new ones.
    await live.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE granted AND {OF_ADVISORY_LOCK}",
        (writer_lock(str(row[0])),),
    )


async def _grants(live: Connection, table: str) -> list[bytes]:
    """The privileges of other roles on a table, as statements that grant them on the table that replaces it."""
    cursor = await live.execute(
        "SELECT format('GRANT %%s ON %%I TO %%s', privilege_type, relname,"
        " CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)"
        " FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = %s::regclass AND grantee <> relowner",
        (table,),
    )
    return [str(row[0]).encode() for row in await cursor.fetchall()]
