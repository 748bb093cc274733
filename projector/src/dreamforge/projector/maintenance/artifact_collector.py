"""Removes what lost attempts left in the object store: objects that no succeeded job shows.

An object is safe while it is young: a runner stores a picture first and appends the fact right after, storing it
again when it is painted again after `uploads.REMEMBERED_SECONDS`, which is well below the grace.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from loguru import logger
from prometheus_client import Counter
from psycopg import AsyncConnection, OperationalError

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.log.streams import JOBS
from dreamforge.projector.projector import Projector, Role
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.writing.session import patient
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import ApiError, Bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.storage.objects import ObjectStore, StoredObject

COLLECTED = Counter("forge_collected_objects_total", "Objects of lost attempts that were removed")
# A question to Postgres has at most this many keys.
KEYS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection saw and did."""

    seen: int
    orphans: tuple[str, ...]
    freed_bytes: int
    behind: bool = False


def candidates(objects: list[StoredObject], now: datetime, grace_seconds: float) -> list[StoredObject]:
    """The objects old enough to be judged. Pure."""
    oldest = now - timedelta(seconds=grace_seconds)
    return [found for found in objects if found.modified_at <= oldest]


async def collect(
    database_url: str, bus: Bus, store: ObjectStore, *, grace_seconds: float, dry_run: bool = False
) -> Collection:
    """One collection. Does nothing (`behind`) while the read tables have not folded all that is in the log now.

    Errors: DependencyAway, psycopg.OperationalError.
    """
    objects = await store.listed()
    old = candidates(objects, clock.now(), grace_seconds)
    newest = await last_sequence(bus, JOBS.name)
    async with await AsyncConnection.connect(patient(database_url), autocommit=True) as connection:
        if not await _folded(connection, newest):
            return Collection(len(objects), (), 0, behind=True)
        shown = await _shown(connection, [found.key for found in old])
    orphans = [found for found in old if found.key not in shown]
    for orphan in orphans if not dry_run else ():
        if _same(await store.modified_at(orphan.key), orphan.modified_at):  # else somebody stored it again just now
            await store.remove(orphan.key)
            COLLECTED.inc()
    return Collection(len(objects), tuple(o.key for o in orphans), sum(o.size_bytes for o in orphans))


async def collect_for_ever(settings: ProjectorSettings, bus: Bus, projector: Projector) -> None:
    """Collect now and then where the tables are written, until cancelled; trouble is said and tried again later."""
    url = settings.database_url.get_secret_value()
    while True:
        await asyncio.sleep(settings.projector_collect_seconds)
        if projector.role is not Role.WRITING:
            continue
        try:
            store = ObjectStore(settings)
            done = await collect(url, bus, store, grace_seconds=settings.projector_collect_grace_seconds)
        except (ForgeError, ApiError, OperationalError) as error:
            logger.warning("could not collect lost objects: {}", error)
            continue
        if done.orphans:
            logger.info("collected {} lost objects, {} bytes", len(done.orphans), done.freed_bytes)


def _same(now: datetime | None, before: datetime) -> bool:
    """A listing has milliseconds, the header of one object only seconds."""
    return now is not None and abs(now - before) < timedelta(seconds=1)


async def _folded(connection: AsyncConnection[tuple[object, ...]], newest: int) -> bool:
    row = await (
        await connection.execute("SELECT sequence FROM checkpoints WHERE stream = %s", (JOBS.name,))
    ).fetchone()
    return row is not None and isinstance(row[0], int) and row[0] >= newest


async def _shown(connection: AsyncConnection[tuple[object, ...]], keys: list[str]) -> set[str]:
    """Those of the keys that a visible artifact points to."""
    shown: set[str] = set()
    for start in range(0, len(keys), KEYS_AT_ONCE):
        found = await connection.execute(
            "SELECT DISTINCT object_key FROM artifacts WHERE visible AND object_key = ANY(%s)",
            (keys[start : start + KEYS_AT_ONCE],),
        )
        shown |= {str(row[0]) for row in await found.fetchall()}
    return shown
