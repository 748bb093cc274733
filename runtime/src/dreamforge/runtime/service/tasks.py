"""Running and cancelling several asyncio tasks as one."""

import asyncio
from collections.abc import Coroutine
from typing import Any

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
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
