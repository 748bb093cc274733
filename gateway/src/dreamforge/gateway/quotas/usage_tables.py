"""What tenants use, counted in the read tables: one statement each, with the sequence that the tables had.

Uploads are in no table: the object store is asked for them.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy import RowMapping

from dreamforge.contracts.quotas import HOUR_SECONDS
from dreamforge.gateway.quotas.usage import Count, UsedAmount
from dreamforge.gateway.read import queries
from dreamforge.gateway.read.database import Database
from dreamforge.runtime import clock

MINUTE_SECONDS = 60
UploadedBytes = Callable[[frozenset[str] | None], Awaitable[Mapping[str, int]]]


class UsageTables:
    """Errors of every count: DependencyAway."""

    def __init__(self, database: Database, uploaded: UploadedBytes) -> None:
        self._database, self._uploaded = database, uploaded

    async def open_jobs(self) -> Count:
        """Jobs of each tenant that are not finished."""
        return _count(await self._database.rows(queries.open_jobs()))

    async def pixel_steps(self, tenants: frozenset[str] | None) -> Count:
        """Pixel-steps of the jobs that were requested in the last hour, of these tenants (None: of all).

        By whole minutes: a minute counts until its last moment is an hour ago, so no hour has more than the quota.
        """
        since = clock.now() - timedelta(seconds=HOUR_SECONDS + MINUTE_SECONDS)
        return _count(await self._database.rows(queries.pixel_steps_by_minute(since, tenants)))

    async def stored_bytes(self, tenants: frozenset[str] | None) -> Count:
        """Bytes of the images that jobs of these tenants show, and of their uploads (None: of all)."""
        count = _count(await self._database.rows(queries.stored_bytes(tenants)))
        used = defaultdict(tuple[UsedAmount, ...], count.used)
        for tenant, size_bytes in (await self._uploaded(tenants)).items():
            used[tenant] += (UsedAmount(size_bytes),)
        return Count(count.sequence, used)


def _count(rows: Iterable[RowMapping]) -> Count:
    """Rows of (sequence, tenant, number, perhaps minute); where nothing is used there is one without a tenant."""
    sequence, used = 0, defaultdict[str, list[UsedAmount]](list)
    for row in rows:
        sequence = int(row["sequence"] or 0)
        if row["tenant"] is not None:
            used[str(row["tenant"])].append(UsedAmount(int(row["number"]), _until(row.get("minute"))))
    return Count(sequence, {tenant: tuple(parts) for tenant, parts in used.items()})


def _until(minute: int | None) -> datetime | None:
    """When a minute since 1970 stops counting."""
    if minute is None:
        return None
    return datetime.fromtimestamp((minute + 1) * MINUTE_SECONDS + HOUR_SECONDS, UTC)
