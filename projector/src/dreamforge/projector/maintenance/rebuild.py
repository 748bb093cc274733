"""Throw the read tables away and make them anew from the log, while they go on being written and read.

Blue and green: the fresh tables are folded in a schema of their own from sequence 0. When they have caught up, the
live tables are held still for a moment, the fresh ones take their place in one transaction, and the projector is
sent to read them anew. Readers never see anything but whole tables at one checkpoint.
"""

import asyncio
from dataclasses import dataclass

import psycopg
from loguru import logger
from psycopg import sql

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.tables import metadata
from dreamforge.projector.folding.folds import all_folds
from dreamforge.projector.maintenance.exclusive import (
    Fresh,
    OnProgress,
    Progress,
    fresh_tables,
    held_still,
    live_places,
    log_of,
    reporting,
    silent,
)
from dreamforge.projector.writing.session import OF_ADVISORY_LOCK, WRITER_LOCK, Connection
from dreamforge.runtime import clock
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.settings import CommonSettings

SCHEMA = "forge_next"
# Below Postgres's deadlock_timeout (1 s), so that in a deadlock with a reader it is the swap that gives way.
LOCK_SECONDS = 0.5
CATCH_UP_SECONDS = 10.0
SWAP_ATTEMPTS = 20
GIVES_WAY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, TimeoutError)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did. `held_seconds` is how long the live tables stood still."""

    events: int
    seconds: float
    held_seconds: float


@dataclass(eq=False)
class SwapRefused(ForgeError):
    """The fresh tables are complete, but readers or the load never let them take their place."""

    code = "swap_refused"
    attempts: int
    reason: str

    def __str__(self) -> str:
        return f"the rebuilt tables could not be put in place in {self.attempts} attempts: {self.reason}"


async def rebuild(settings: CommonSettings, on_progress: OnProgress = silent) -> Rebuilt:
    """Fold the whole log into new tables and put them in the place of the live ones.

    Errors: MaintenanceRunning, SwapRefused, psycopg.OperationalError and DependencyAway when something is away;
    the live tables are then untouched.
    """
    began = clock.monotonic_seconds()
    async with log_of(settings, "rebuild") as bus, fresh_tables(settings, bus, SCHEMA) as fresh:
        ends = {fold.stream: await last_sequence(bus, fold.stream) for fold in all_folds()}
        async with reporting("folding", fresh, ends["JOBS"], on_progress):
            await fresh.fold_up_to(ends)
        events = fresh.jobs_sequence
        async with reporting("indexing", fresh, ends["JOBS"], on_progress):
            await fresh.index()
        held_seconds = await _take_over(settings, fresh, on_progress)
    seconds = clock.monotonic_seconds() - began
    on_progress(Progress("done", events, events, seconds))
    return Rebuilt(events, seconds, held_seconds)


async def _take_over(settings: CommonSettings, fresh: Fresh, on_progress: OnProgress) -> float:
    """Follow the log until the swap succeeds; give the seconds that the live tables stood still."""
    following = await fresh.follow()
    reason = "the fresh tables never caught up"
    try:
        async for attempt in retry.backoff():
            if following.done():
                following.result()
            on_progress(Progress("swapping", fresh.jobs_sequence, fresh.jobs_sequence))
            try:
                return await _swap(settings, fresh)
            except GIVES_WAY as error:
                reason = str(error) or reason
                logger.info("the swap gives way: {}", reason)
            if attempt >= SWAP_ATTEMPTS:
                break
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    raise SwapRefused(attempts=SWAP_ATTEMPTS, reason=reason)


async def _swap(settings: CommonSettings, fresh: Fresh) -> float:
    """Errors: GIVES_WAY: nothing has changed, try again."""
    both = [sql.Identifier(*place) for name in _tables() for place in ((name,), (fresh.schema, name))]
    async with held_still(settings, LOCK_SECONDS, not_vacuumed=both) as live:
        began = clock.monotonic_seconds()
        places = await live_places(live, fresh.bus)
        async with asyncio.timeout(CATCH_UP_SECONDS):
            await fresh.reached(places)
        async with fresh.session.busy:  # nothing moves on either side from here on
            await _put_in_place(live, fresh.schema, places)
    return clock.monotonic_seconds() - began


def _tables() -> list[str]:
    """Every table; checkpoints last, since who reads it is to be locked out for the shortest time."""
    return sorted(metadata.tables, key=lambda name: name == "checkpoints")


async def _put_in_place(live: Connection, schema: str, places: dict[str, int]) -> None:
    """Within the holding transaction."""
    row = await (await live.execute("SELECT current_schema()")).fetchone()
    assert row is not None
    home = sql.Identifier(str(row[0]))
    for stream, place in places.items():
        raised = sql.SQL("UPDATE {}.checkpoints SET sequence = %s WHERE stream = %s AND sequence < %s")
        await live.execute(raised.format(sql.Identifier(schema)), (place, stream, place))
    for name in _tables():
        table = sql.Identifier(name)
        grants = await _grants(live, name)
        await live.execute(sql.SQL("DROP TABLE {}.{}").format(home, table))
        await live.execute(sql.SQL("ALTER TABLE {}.{} SET SCHEMA {}").format(sql.Identifier(schema), table, home))
        for grant in grants:
            await live.execute(grant)
    # The projector knows jobs from the old tables: its session ends, and the next one reads the new ones.
    await live.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE granted AND {OF_ADVISORY_LOCK}",
        (WRITER_LOCK,),
    )


async def _grants(live: Connection, table: str) -> list[bytes]:
    """What others may do with a table, as statements to say so of the next one of that name."""
    cursor = await live.execute(
        "SELECT format('GRANT %%s ON %%I TO %%s', privilege_type, relname,"
        " CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END)"
        " FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = %s::regclass AND grantee <> relowner",
        (table,),
    )
    return [str(row[0]).encode() for row in await cursor.fetchall()]
