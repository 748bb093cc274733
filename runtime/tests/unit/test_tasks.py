"""Tasks can be cancelled, whatever their libraries do with a cancellation."""

import asyncio

import pytest

from dreamforge.runtime.service import tasks


async def test_a_task_that_swallows_a_cancellation_is_cancelled_again() -> None:
    swallowed = asyncio.Event()
    task = asyncio.create_task(deaf(swallowed))
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.cancel(task, cleanup_seconds=0.01), 5)
    assert swallowed.is_set()
    assert task.cancelled()


async def deaf(swallowed: asyncio.Event) -> None:
    """Goes on after its first cancellation."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        swallowed.set()
    await asyncio.Event().wait()


async def test_a_group_that_is_cancelled_cancels_its_tasks_until_they_have_ended() -> None:
    swallowed = asyncio.Event()

    async def grouped() -> None:
        async with tasks.TaskGroup(cleanup_seconds=0.01) as group:
            group.create_task(deaf(swallowed))

    task = asyncio.create_task(grouped())
    await asyncio.sleep(0.01)
    await asyncio.wait_for(tasks.cancel(task, cleanup_seconds=60), 5)
    assert swallowed.is_set()
    assert task.cancelled()


@pytest.mark.parametrize("outside", [True, False])
async def test_a_group_that_fails_does_the_same_and_raises_the_error(outside: bool) -> None:
    swallowed = asyncio.Event()

    async def breaks() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    async def grouped() -> None:
        async with tasks.TaskGroup(cleanup_seconds=0.01) as group:
            group.create_task(deaf(swallowed))
            await asyncio.sleep(0)
            await (breaks() if outside else asyncio.wait({group.create_task(breaks())}))

    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(grouped(), 5)
    assert [type(each) for each in raised.value.exceptions] == [ValueError]
    assert swallowed.is_set()


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


async def test_a_group_with_a_failed_task_says_that_it_takes_no_other_one() -> None:
    async def fail() -> None:
        raise ValueError

    seen: list[bool] = []

    async def run() -> None:
        async with tasks.TaskGroup() as group:
            seen.append(group.is_ending)
            # Called by others, in the moment in which the block does not know of the failure yet.
            group.create_task(fail()).add_done_callback(lambda _: seen.append(group.is_ending))
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup):
        await run()
    assert seen == [False, True]
