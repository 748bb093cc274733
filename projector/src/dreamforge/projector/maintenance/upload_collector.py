"""Removes uploads that were deleted, that no job names, or that are older than the retention period.

An upload is its bytes, and an empty object for each tenant that owns it. Ownership ends first; bytes without an owner
go when no open job needs them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from loguru import logger
from prometheus_client import Counter

from dreamforge.contracts.log.streams import JOBS
from dreamforge.projector.maintenance.named_objects import folded, hash_of, inputs
from dreamforge.projector.maintenance.object_removal import same_time, set_aside
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.writing.same_log import require_proved
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.storage.bucket_owner import require_owner
from dreamforge.runtime.storage.objects import (
    PROBE,
    UPLOAD_DELETIONS,
    UPLOAD_OWNERS,
    UPLOADS,
    ObjectStore,
    StoredObject,
)
from dreamforge.runtime.storage.postgres import Connection

COLLECTED_UPLOADS = Counter("forge_collected_uploads_total", "Uploads whose bytes were removed")


@dataclass(frozen=True, slots=True)
class UploadRules:
    """How old an upload may become; None: without end. `unused`: while no job names it. `kept`: in any case."""

    unused: timedelta | None
    kept: timedelta | None

    @classmethod
    def of(cls, settings: ProjectorSettings) -> "UploadRules":
        """The rules of an installation."""
        hours, days = settings.retention_unused_uploads_hours, settings.retention_uploads_days
        return cls(timedelta(hours=hours) if hours else None, timedelta(days=days) if days else None)

    def expired(self, age: timedelta, *, used: bool) -> bool:
        """Whether an upload of this age is to go.

        >>> UploadRules(timedelta(hours=24), None).expired(timedelta(hours=25), used=True)
        False
        """
        too_old = self.kept is not None and age >= self.kept
        return too_old or (self.unused is not None and not used and age >= self.unused)


@dataclass(frozen=True, slots=True)
class UploadPlan:
    """Keys: ownership that ends, bytes that are removed, deletions that are settled."""

    owners: tuple[str, ...]
    uploads: tuple[str, ...]
    deletions: tuple[str, ...]


def plan_uploads(
    owners: Sequence[StoredObject],
    uploads: Sequence[StoredObject],
    deletions: Sequence[StoredObject],
    *,
    named: Collection[str],
    needed: Collection[str],
    rules: UploadRules,
    now: datetime,
) -> UploadPlan:
    """What is to be removed. `named`: uploads that a job names; `needed`: those that an open one does. Pure."""
    ending = [
        owner.key
        for owner in owners
        if hash_of(owner.key) not in needed and rules.expired(now - owner.modified_at, used=hash_of(owner.key) in named)
    ]
    left = {hash_of(owner.key) for owner in owners if owner.key not in ending}
    deleted = {hash_of(deletion.key) for deletion in deletions} | {hash_of(key) for key in ending}
    going = [
        upload.key
        for upload in uploads
        if hash_of(upload.key) not in left
        and hash_of(upload.key) not in needed
        and (
            hash_of(upload.key) in deleted or rules.expired(now - upload.modified_at, used=hash_of(upload.key) in named)
        )
    ]
    kept = {hash_of(upload.key) for upload in uploads} - {hash_of(key) for key in going}
    settled = [each.key for each in deletions if hash_of(each.key) in left or hash_of(each.key) not in kept]
    return UploadPlan(tuple(ending), tuple(going), tuple(settled))


async def collect_uploads(connection: Connection, bus: Bus, store: ObjectStore, rules: UploadRules) -> int:
    """One collection; how many uploads were set aside. Does nothing while the tables are behind the log.

    Errors: OtherLog, NotOurs, DependencyAway, psycopg.OperationalError.
    """
    owners, deletions = await store.listed(UPLOAD_OWNERS), await store.listed(UPLOAD_DELETIONS)
    uploads = [found for found in await store.listed(UPLOADS) if not found.key.startswith(PROBE)]
    if not uploads and not owners and not deletions:
        return 0
    now, newest = await store.now(), await last_sequence(bus, JOBS.name)
    await require_owner(store, await require_proved(bus, connection))
    if not await folded(connection, newest):
        return 0
    hashes = list({hash_of(found.key) for found in (*owners, *uploads)})
    plan = plan_uploads(
        owners,
        uploads,
        deletions,
        named=await inputs(connection, hashes, open_only=False),
        needed=await inputs(connection, hashes, open_only=True),
        rules=rules,
        now=now,
    )
    ages = {owner.key: owner.modified_at for owner in owners}
    for key in plan.owners:
        if same_time(await store.modified_at(key), ages[key]):  # else it was uploaded again meanwhile
            await store.remove(key)
    taken = await set_aside(store, plan.uploads)
    for key in plan.deletions:
        await store.remove(key)
    if taken:
        COLLECTED_UPLOADS.inc(taken)
        logger.info("collected {} uploads", taken)
    return taken
