"""A process ends when it is told to or when a part of it ends, and undoes what it started in reverse order."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.testing import eventually

Start = Callable[[Lifetime], Coroutine[Any, Any, None]]


async def forever(closed: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        closed.append(name)


def note(closed: list[str], name: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def close() -> None:
        closed.append(name)

    return close


async def run(start: Start, *, stop_first: bool = False) -> None:
    stop = asyncio.Event()
    if stop_first:
        stop.set()
    await asyncio.wait_for(Lifetime(stop).run(start), 5)


async def test_tasks_and_callbacks_are_undone_in_reverse_order() -> None:
    closed: list[str] = []
    stop, started = asyncio.Event(), asyncio.Event()

    async def start(lifetime: Lifetime) -> None:
        lifetime.on_close(note(closed, "connection"))
        lifetime.spawn(forever(closed, "first"), "first")
        lifetime.spawn(forever(closed, "second"), "second")
        lifetime.on_close(note(closed, "drain"))
        started.set()

    running = asyncio.create_task(Lifetime(stop).run(start))
    await started.wait()
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(running, 5)
    assert closed == ["drain", "second", "first", "connection"]


async def test_an_error_of_a_task_ends_the_process_after_everything_was_closed() -> None:
    closed: list[str] = []

    async def breaks() -> None:
        raise ValueError("broken")

    async def start(lifetime: Lifetime) -> None:
        lifetime.on_close(note(closed, "connection"))
        lifetime.spawn(breaks(), "breaks")
        await forever(closed, "start")

    with pytest.raises(ValueError, match="broken"):
        await run(start)
    assert closed == ["start", "connection"]


async def test_an_error_of_the_start_ends_the_process() -> None:
    async def start(_: Lifetime) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await run(start)


async def test_a_task_that_ends_ends_the_process_unless_it_may() -> None:
    async def ends() -> None:
        return None

    async def start(lifetime: Lifetime) -> None:
        lifetime.spawn(ends(), "announce", may_end=True)
        await asyncio.sleep(0.01)
        lifetime.spawn(ends(), "follower")

    with pytest.raises(RuntimeError, match="follower ended"):
        await run(start)


async def test_a_start_that_waits_for_a_dependency_can_be_stopped() -> None:
    closed: list[str] = []

    async def start(lifetime: Lifetime) -> None:
        lifetime.on_close(note(closed, "connection"))
        await forever(closed, "start")

    await run(start, stop_first=True)
    assert closed in ([], ["start", "connection"])


async def test_a_callback_that_fails_leaves_nothing_open() -> None:
    closed: list[str] = []

    async def fails() -> None:
        raise ValueError("drain")

    async def start(lifetime: Lifetime) -> None:
        lifetime.on_close(note(closed, "connection"))
        lifetime.on_close(fails)

    stop = asyncio.Event()
    running = asyncio.create_task(Lifetime(stop).run(start))
    await asyncio.sleep(0.01)
    stop.set()
    with pytest.raises(ValueError, match="drain"):
        await asyncio.wait_for(running, 5)
    assert closed == ["connection"]


async def test_callbacks_know_whether_the_process_was_told_to_stop() -> None:
    async def ends() -> None:
        return None

    stopping: list[bool] = []

    def start_with(work: Coroutine[Any, Any, None]) -> Start:
        async def start(lifetime: Lifetime) -> None:
            async def close() -> None:
                stopping.append(lifetime.stopping)

            lifetime.on_close(close)
            lifetime.spawn(work, "work")

        return start

    with pytest.raises(RuntimeError):
        await run(start_with(ends()))
    stop = asyncio.Event()
    running = asyncio.create_task(Lifetime(stop).run(start_with(forever([], "work"))))
    await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(running, 5)
    assert stopping == [False, True]


async def test_an_error_while_closing_is_logged_and_not_lost() -> None:
    from loguru import logger

    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="ERROR")
    stop = asyncio.Event()

    async def breaks_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("while leaving") from None

    async def start(lifetime: Lifetime) -> None:
        lifetime.spawn(breaks_when_cancelled(), "worker")

    running = asyncio.create_task(Lifetime(stop).run(start))
    await asyncio.sleep(0.01)
    stop.set()
    await asyncio.wait_for(running, 5)
    await eventually(lambda: any("worker failed while the process was ending" in line for line in lines), 5)
    logger.remove(sink)
