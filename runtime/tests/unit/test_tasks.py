"""Tasks can be cancelled, whatever their libraries do with a cancellation."""

import asyncio

from dreamforge.runtime.service import tasks


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    swallowed = asyncio.Event()

    async def deaf() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.cancel(task, cleanup_seconds=0.01), 5)
    assert swallowed.is_set()
    assert task.cancelled()


async def test_errors_of_cancelled_tasks_are_not_raised() -> None:
    async def breaks() -> None:
        raise ValueError("broken")

    task = asyncio.create_task(breaks())
    await asyncio.wait_for(tasks.cancel(task), 5)
    assert isinstance(task.exception(), ValueError)


async def test_a_canceller_that_is_cancelled_still_waits_for_its_tasks() -> None:
    leaving, left = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            leaving.set()
            await left.wait()

    task = asyncio.create_task(slow())
    await asyncio.sleep(0)
    canceller = asyncio.create_task(tasks.cancel(task))
    await leaving.wait()
    canceller.cancel()
    await asyncio.sleep(0)
    assert not canceller.done()
    left.set()
    await asyncio.wait({canceller}, timeout=5)
    assert canceller.cancelled()
    assert task.done()
