"""What tenants use, counted in the read tables: one statement each, with the sequence that the tables had."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import RowMapping

from dreamforge.contracts.quotas import HOUR_SECONDS
from dreamforge.gateway.quotas.usage import Count, UsedAmount
from dreamforge.gateway.read import queries
from dreamforge.gateway.read.database import Database
from dreamforge.runtime import clock

MINUTE_SECONDS = 60


class UsageTables:
    """Errors of every count: DependencyAway."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        """Bytes of the images that jobs of these tenants show (None: of all)."""
        return _count(await self._database.rows(queries.stored_bytes(tenants)))


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
