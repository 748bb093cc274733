"""The life of a process that runs until it is told to stop: tasks, a failure that ends it, an ordered close."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from loguru import logger

from dreamforge.runtime.service.health import Check
from dreamforge.runtime.service.tasks import CLEANUP_SECONDS, cancel


class Lifetime:
    """What a process has started so far, and how it is undone: in reverse order, the last one first.

    One `start` function fills it: it spawns tasks and registers what is to be closed.
    """

    def __init__(self, stop: asyncio.Event, checks: dict[str, Check] | None = None) -> None:
        self._stop = stop
        self._checks = {} if checks is None else checks
        self._close = AsyncExitStack()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def stopping(self) -> bool:
        """Whether the process was told to stop; False while it ends because one of its tasks did."""
        return self._stop.is_set()

    def spawn(
        self,
        work: Coroutine[Any, Any, None],  # Any: as asyncio declares
        name: str,
        *,
        may_end: bool = False,
        cleanup_seconds: float = CLEANUP_SECONDS,
    ) -> "asyncio.Task[None]":
        """Run a task. Its error ends the process; so does its end, unless it `may_end`.

        At the end it is cancelled, and once more after `cleanup_seconds` (see `tasks.cancel`).
        """
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(partial(self._ended, may_end=may_end))
        self.on_close(partial(cancel, task, cleanup_seconds=cleanup_seconds))
        return task

    def on_close(self, callback: Callable[[], Awaitable[object]]) -> None:
        """Await this at the end, before everything that was spawned or registered earlier is undone."""
        self._close.push_async_callback(callback)

    def ready_when(self, name: str, check: Check) -> None:
        """Set a readiness check by its name."""
        self._checks[name] = check

    async def run(
        self,
        start: Callable[["Lifetime"], Coroutine[Any, Any, None]],
        *,
        cleanup_seconds: float = CLEANUP_SECONDS,
    ) -> None:
        """Start, wait for the stop event, undo everything. Errors: the first one of `start` or of a task.

        A `start` that is still under way is cancelled first, and once more after `cleanup_seconds`.
        """
        starting = asyncio.create_task(start(self), name="start")
        starting.add_done_callback(partial(self._ended, may_end=True))
        stopped = asyncio.create_task(self._stop.wait())
        first: set[asyncio.Future[Any]] = {stopped, self._failed}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
        finally:
            self._failed.cancel()  # from here on an error is only logged
            try:
                await cancel(stopped, starting, cleanup_seconds=cleanup_seconds)
            finally:
                await self._close.aclose()

    def _ended(self, task: "asyncio.Task[None]", *, may_end: bool) -> None:
        error = None if task.cancelled() else task.exception()
        if self._failed.done():
            if error is not None:
                logger.opt(exception=error).error("{} failed while the process was ending: {}", task.get_name(), error)
        elif error is not None:
            self._failed.set_exception(error)
        elif not may_end:
            self._failed.set_exception(RuntimeError(f"background task {task.get_name()} ended"))
