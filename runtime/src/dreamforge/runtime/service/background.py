"""Short tasks that run beside their caller, and one-shot alarms."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

from loguru import logger

from dreamforge.runtime import clock

# The event loop may call a timer one clock tick before the wall clock shows its time.
TICK_SECONDS = 0.001
# The loop's timers stand still while a machine is suspended, and know nothing of a clock that is corrected.
LOOK_SECONDS = 5.0


class BackgroundTasks:
    """Tasks that are not awaited one by one: kept referenced, awaited at the end, and logged when they fail."""

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
            logger.opt(exception=error).error("{} failed: {}", task.get_name(), error)

    async def close(self, within_seconds: float) -> None:
        """Wait until they have finished; cancel those that take longer."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=within_seconds)
            for task in late:
                task.cancel()


class Alarm:
    """Calls `ring` once, at the earliest of the times it was set to."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._when: datetime | None = None
        self._handle: asyncio.TimerHandle | None = None

    def at(self, when: datetime | None) -> None:
        """Ring at this time, unless an earlier one is set; None changes nothing."""
        if when is None or (self._when is not None and self._when <= when):
            return
        self.off()
        self._when = when
        self._wait(when)

    def off(self) -> None:
        """Forget the time that was set."""
        if self._handle is not None:
            self._handle.cancel()
        self._when = self._handle = None

    def _wait(self, when: datetime) -> None:
        seconds = max(0.0, (when - clock.now()).total_seconds()) + TICK_SECONDS
        self._handle = asyncio.get_running_loop().call_later(min(seconds, LOOK_SECONDS), self._look, when)

    def _look(self, when: datetime) -> None:
        if clock.now() < when:
            self._wait(when)
            return
        self.off()
        self._ring()
