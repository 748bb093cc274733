"""How many jobs may be open at once, known cheaply: counted in the tables once a second, plus what came since."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from dreamforge.contracts.errors import DependencyAway, QueueFull
from dreamforge.runtime import clock

# Counting 100,000 open jobs costs Postgres some 10 ms: once a second that is nothing, once a request too much.
COUNT_SECONDS = 1.0


class Room:
    """Refuses submissions when the queue is full. Never waits: while Postgres is away the last count holds."""

    def __init__(self, count: Callable[[], Awaitable[int]], maximum: int) -> None:
        self._count = count
        self._maximum = maximum
        self._counted = 0
        self._accepted = 0
        self._accepted_then = 0
        self._counted_at = float("-inf")
        self._counting: asyncio.Task[None] | None = None

    @property
    def open_jobs(self) -> int:
        """The last count and everything this process has accepted since."""
        return self._counted + self._accepted - self._accepted_then

    def require(self) -> None:
        """Errors: QueueFull(open_jobs, maximum)."""
        if clock.monotonic_seconds() - self._counted_at > COUNT_SECONDS:
            self._counted_at = clock.monotonic_seconds()
            self._counting = asyncio.create_task(self.refresh(), name="count-open-jobs")
        if self.open_jobs >= self._maximum:
            raise QueueFull(open_jobs=self.open_jobs, maximum=self._maximum)

    def taken(self) -> None:
        """One more job is open."""
        self._accepted += 1

    async def refresh(self) -> None:
        """Count again."""
        accepted_then = self._accepted
        try:
            self._counted = await self._count()
        except DependencyAway as error:
            logger.debug("open jobs are not counted: {}", error)
        else:
            self._accepted_then = accepted_then

    async def close(self) -> None:
        """Wait for a count in flight."""
        if self._counting is not None:
            await asyncio.gather(self._counting, return_exceptions=True)
