"""Running coroutines that stand or fall together."""

import asyncio
from collections.abc import Coroutine

from dreamforge.runtime.service.lifecycle import cancel


async def together(*coroutines: Coroutine[object, object, None]) -> None:
    """Until one of them ends or fails; then the others are cancelled and the first failure is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await cancel(*tasks)


async def all_done(*coroutines: Coroutine[object, object, None]) -> None:
    """Until all of them have ended; if one fails, the others are cancelled and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
