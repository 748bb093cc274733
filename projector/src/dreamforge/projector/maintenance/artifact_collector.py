"""Removes what lost attempts left in the object store: objects that no job shows.

Objects are removed only on the word of tables that are proved to be those of the log in NATS, from a bucket that is
this log's, and only those that are younger than the log: an older one belongs to a log that was lost.

Images that a job had finished before it was cancelled or failed are shown, so they stay. A young object is never
removed: a runner stores an image first and appends the event right after. What is removed is set aside for as long
(`object_removal`). An image that is rendered again is stored
again after `REMEMBERED_SECONDS` of the runner's uploader, which is well below the grace.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from loguru import logger
from prometheus_client import Counter
from psycopg import OperationalError

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.log.streams import JOBS
from dreamforge.projector.maintenance.named_objects import folded, named, shown
from dreamforge.projector.maintenance.object_removal import same_time, set_aside, settle
from dreamforge.projector.maintenance.upload_collector import UploadRules, collect_uploads
from dreamforge.projector.projector import Projector, Role
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.writing.same_log import require_proved
from dreamforge.runtime.log.bus import ApiError, Bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.log.identity import made_at
from dreamforge.runtime.storage.bucket_owner import require_owner
from dreamforge.runtime.storage.objects import ObjectStore, StoredObject
from dreamforge.runtime.storage.postgres import connect

COLLECTED = Counter("forge_collected_objects_total", "Objects of lost attempts that were removed")


@dataclass(frozen=True, slots=True)
class Collection:
    """What a collection found and removed."""

    seen: int
    orphans: tuple[str, ...]
    freed_bytes: int
    behind: bool = False


def candidates(
    objects: list[StoredObject], now: datetime, grace_seconds: float, log_made_at: datetime
) -> list[StoredObject]:
    """The objects that are old enough to be removed, and not older than the log. Pure."""
    oldest = now - timedelta(seconds=grace_seconds)
    return [found for found in objects if log_made_at <= found.modified_at <= oldest]


async def collect(
    database_url: str, bus: Bus, store: ObjectStore, *, grace_seconds: float, dry_run: bool = False
) -> Collection:
    """One collection. Does nothing (`behind`) while the read tables have not folded all that is in the log now.

    Errors: OtherLog unless tables and bucket are proved to be those of the log; DependencyAway, NotOurs,
    psycopg.OperationalError.
    """
    objects = await store.listed()
    # The store's own clock: ages are told by no other.
    old = candidates(objects, await store.now(), grace_seconds, await made_at(bus, JOBS.name))
    newest = await last_sequence(bus, JOBS.name)
    async with await connect(database_url, name="dreamforge-collect") as connection:
        await require_owner(store, await require_proved(bus, connection))
        if not await folded(connection, newest):
            return Collection(len(objects), (), 0, behind=True)
        names = await shown(connection, [found.key for found in old])
        orphans = [found for found in old if found.key not in names]
        for orphan in orphans if not dry_run else ():
            if same_time(await store.modified_at(orphan.key), orphan.modified_at):  # else it was stored again meanwhile
                COLLECTED.inc(await set_aside(store, [orphan.key]))
        if not dry_run:
            await settle(store, partial(named, bus, connection, store), grace_seconds=grace_seconds)
    return Collection(len(objects), tuple(o.key for o in orphans), sum(o.size_bytes for o in orphans))


async def collect_periodically(settings: ProjectorSettings, bus: Bus, projector: Projector) -> None:
    """Collect in the process that writes the tables, until cancelled; a failure is logged and tried again later."""
    url = settings.database_url.get_secret_value()
    while True:
        await asyncio.sleep(settings.projector_collect_seconds)
        if projector.role is not Role.WRITING:
            continue
        try:
            store = ObjectStore(settings)
            async with await connect(url, name="dreamforge-collect") as connection:
                await collect_uploads(connection, bus, store, UploadRules.of(settings))
            done = await collect(url, bus, store, grace_seconds=settings.projector_collect_grace_seconds)
        except (ForgeError, ApiError, OperationalError) as error:
            logger.warning("could not collect lost objects: {}", error)
            continue
        if done.orphans:
            logger.info("collected {} lost objects, {} bytes", len(done.orphans), done.freed_bytes)
