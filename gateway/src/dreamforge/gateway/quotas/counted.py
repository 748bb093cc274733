"""One quota that is counted in the read tables now and then. It never makes a request wait, but for its first count."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from dreamforge.contracts.errors import DependencyAway
from dreamforge.gateway.quotas.usage import Count, TenantUsage
from dreamforge.runtime import clock

# Counting 100,000 open jobs costs Postgres some 10 ms: once a second that is negligible, once a request too much.
COUNT_SECONDS = 1.0
# A count that takes long is repeated less often: it costs a connection at most a twentieth of its time.
PAUSE_OF_COUNT = 20.0
# Postgres may be unavailable, and jobs are accepted without it.
FIRST_SECONDS = 1.0


class Counted:
    """A usage, and when it was counted. While Postgres is unavailable the last count holds."""

    def __init__(self, name: str, count: Callable[[], Awaitable[Count]]) -> None:
        self.usage = TenantUsage()
        self._name = name
        self._count = count
        self._due_at = float("-inf")
        self._counting: asyncio.Task[None] | None = None
        self._known = False

    async def up_to_date(self) -> None:
        """Count again if it is time to, in the background; wait a moment for it where there was no count yet."""
        if clock.monotonic_seconds() >= self._due_at and (self._counting is None or self._counting.done()):
            self._counting = asyncio.create_task(self.refresh(), name=f"count-{self._name}")
        if not self._known and self._counting is not None:
            await asyncio.wait({self._counting}, timeout=FIRST_SECONDS)

    def forget(self) -> None:
        """Others are to be counted than before."""
        self._known, self._due_at = False, float("-inf")

    async def refresh(self) -> None:
        """Count now; once more, if it was forgotten meanwhile."""
        while True:
            began = clock.monotonic_seconds()
            self._due_at = began + COUNT_SECONDS
            stored = self.usage.stored()
            try:
                count = await self._count()
            except DependencyAway as error:
                logger.debug("{} are not counted: {}", self._name, error)
                return
            if self._due_at >= began:
                break
        self.usage.counted(count, stored)
        self._known = True
        self._due_at = began + max(COUNT_SECONDS, PAUSE_OF_COUNT * (clock.monotonic_seconds() - began))

    async def close(self) -> None:
        """Wait for a count that is running."""
        if self._counting is not None:
            await asyncio.gather(self._counting, return_exceptions=True)
