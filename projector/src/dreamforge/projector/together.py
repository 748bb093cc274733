"""Running coroutines that stand or fall together."""

import asyncio
from collections.abc import Coroutine


async def together(*coroutines: Coroutine[object, object, None]) -> None:
    """Until one of them ends or fails; then the others are cancelled and the first failure is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
