"""Running and cancelling several asyncio tasks as one."""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from types import TracebackType
from typing import Any, TypeVar

# How long a task may clean up before it is cancelled again.
CLEANUP_SECONDS = 1.0


async def cancel(*tasks: "asyncio.Task[Any]", cleanup_seconds: float = CLEANUP_SECONDS) -> None:  # Any: not looked at
    """Cancel tasks and wait until they have ended, whatever they end with.

    If the caller is cancelled meanwhile, it still waits for them, then ends as cancelled. Tasks that have not ended
    after `cleanup_seconds` are cancelled again, because libraries that use `asyncio.wait_for` on Python 3.11 can
    swallow a cancellation that arrives together with their answer.
    """
    pending = set(tasks)
    interruption: asyncio.CancelledError | None = None
    while pending:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=cleanup_seconds)
        except asyncio.CancelledError as error:
            interruption = error
        pending = {task for task in pending if not task.done()}
    await asyncio.gather(*tasks, return_exceptions=True)  # marks their errors as retrieved
    if interruption is not None:
        raise interruption


T = TypeVar("T")


class TaskGroup(asyncio.TaskGroup):
    """One whose tasks are cancelled again until they have ended (see `cancel`): asyncio's cancels each of them once.

    A task that tried to connect to a server that was away went on trying, and its group never ended.
    """

    def __init__(self, *, cleanup_seconds: float = CLEANUP_SECONDS) -> None:
        super().__init__()
        self._made: set[asyncio.Task[Any]] = set()  # Any: not looked at
        self._failed, self._cleanup_seconds = False, cleanup_seconds

    @property
    def is_ending(self) -> bool:
        """Whether a task has failed: it takes no other task from then on, also before the block is told so."""
        return self._failed

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> "asyncio.Task[T]":
        """As asyncio's."""
        task = super().create_task(coro, name=name, context=context)
        self._made.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._made.discard(task)
        self._failed = self._failed or (not task.cancelled() and task.exception() is not None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As asyncio's."""
        parent = asyncio.current_task()
        assert parent is not None
        insisting = asyncio.create_task(self._insist(parent, ending=error is not None))
        try:
            await super().__aexit__(kind, error, trace)
        finally:
            insisting.cancel()

    async def _insist(self, parent: "asyncio.Task[Any]", *, ending: bool) -> None:
        while True:
            await asyncio.sleep(self._cleanup_seconds)
            if ending or self._failed or parent.cancelling():
                for task in self._made:
                    task.cancel()


async def run_until_first(*coroutines: Coroutine[object, object, None]) -> None:
    """Run until one of them ends or fails; then cancel the others and raise its error, if any."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await cancel(*tasks)


async def run_all(*coroutines: Coroutine[object, object, None]) -> None:
    """Run until all have ended; if one fails, cancel the others and raise its error, without an exception group."""
    try:
        async with TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
