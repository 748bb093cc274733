"""Bounds the number of open jobs cheaply: counted in the tables once a second, plus what was accepted since."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from loguru import logger

from dreamforge.contracts.errors import DependencyAway, QueueFull, TenantQueueFull
from dreamforge.contracts.request.limits import Limits
from dreamforge.runtime import clock

# Counting 100,000 open jobs costs Postgres some 10 ms: once a second that is negligible, once a request too much.
COUNT_SECONDS = 1.0


class OpenJobLimits:
    """Refuses submissions when the queue, or a tenant's part of it, is full.

    Never waits: while Postgres is unavailable the last count holds.
    """

    def __init__(self, count: Callable[[], Awaitable[Mapping[str, int]]], limits: Limits) -> None:
        self._count = count
        self._limits = limits
        self._counted: Mapping[str, int] = {}
        self._since: Counter[str] = Counter()  # accepted by this process since the last count began
        self._counted_at = float("-inf")
        self._counting: asyncio.Task[None] | None = None

    def require(self, tenant: str, jobs: int = 1) -> None:
        """Room for so many jobs more.

        Errors: QueueFull(open_jobs, maximum), TenantQueueFull(tenant, open_jobs, maximum).
        """
        if clock.monotonic_seconds() - self._counted_at > COUNT_SECONDS:
            self._counted_at = clock.monotonic_seconds()
            self._counting = asyncio.create_task(self.refresh(), name="count-open-jobs")
        whole = sum(self._counted.values()) + self._since.total()
        if whole + jobs > self._limits.open_jobs:
            raise QueueFull(open_jobs=whole, maximum=self._limits.open_jobs)
        own = self._counted.get(tenant, 0) + self._since[tenant]
        if own + jobs > self._limits.open_jobs_per_tenant:
            raise TenantQueueFull(tenant=tenant, open_jobs=own, maximum=self._limits.open_jobs_per_tenant)

    def taken(self, tenant: str, jobs: int = 1) -> None:
        """Record so many more open jobs of a tenant."""
        self._since[tenant] += jobs

    async def refresh(self) -> None:
        """Count again."""
        before = self._since.copy()
        try:
            self._counted = await self._count()
        except DependencyAway as error:
            logger.debug("open jobs are not counted: {}", error)
        else:
            self._since -= before  # the count includes those, or the next one will

    async def close(self) -> None:
        """Wait for a count that is running."""
        if self._counting is not None:
            await asyncio.gather(self._counting, return_exceptions=True)
