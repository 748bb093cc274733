"""Small things of asyncio that the loop and the keeper share: tasks that nobody loses, and one alarm."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from loguru import logger

from dreamforge.runtime import clock

# A timer may ring a clock tick before the wall clock shows its time.
TICK_SECONDS = 0.001


class Background:
    """Tasks that run beside the caller: kept alive, awaited at the end, and loud when they break."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:  # Any: asyncio's own generic arguments
        """Start it now."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.opt(exception=error).error("{} broke: {}", task.get_name(), error)

    async def close(self, within_seconds: float) -> None:
        """Let them finish, but not for ever."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_seconds)
            for task in late:
                task.cancel()


class Alarm:
    """Rings once, at the soonest time it was set to."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._when: datetime | None = None
        self._handle: asyncio.TimerHandle | None = None

    def at(self, when: datetime | None) -> None:
        """Ring then, unless it rings sooner anyway; None changes nothing."""
        if when is None or (self._when is not None and self._when <= when):
            return
        self.off()
        self._when = when
        seconds = max(0.0, (when - clock.now()).total_seconds()) + TICK_SECONDS
        self._handle = asyncio.get_running_loop().call_later(seconds, self._rings)

    def off(self) -> None:
        """Do not ring."""
        if self._handle is not None:
            self._handle.cancel()
        self._when = self._handle = None

    def _rings(self) -> None:
        self.off()
        self._ring()
