"""Await an observable condition: for tests, where the moment itself cannot be awaited."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from dreamforge.runtime import clock

T = TypeVar("T")
#: What is waited for needs the processors too: the pause is as long as the observation was, but not longer than this.
PAUSE_SECONDS_MAX = 0.1


@overload
async def eventually(
    observe: Callable[[], Awaitable[T | None]],
    timeout_seconds: float = ...,
    *,
    until: Callable[[T], bool] = ...,
    interval_seconds: float = ...,
) -> T: ...


@overload
async def eventually(
    observe: Callable[[], T | None],
    timeout_seconds: float = ...,
    *,
    until: Callable[[T], bool] = ...,
    interval_seconds: float = ...,
) -> T: ...


async def eventually(
    observe: Callable[[], Any],  # Any: the two forms above say what
    timeout_seconds: float = 10.0,
    *,
    until: Callable[[Any], bool] = bool,
    interval_seconds: float = 0.01,
) -> Any:
    """The first observation that satisfies `until`, so that a test waits exactly as long as it must.

    `observe` may be plain or async; an AssertionError it raises counts as "not yet", and so does None unless `until`
    takes it.
    Errors: AssertionError naming what was observed last, after `timeout_seconds`. Any other exception of
            `observe` passes through at once: it is a fault of the test, not a matter of time.

    >>> values = iter([0, 0, 3])
    >>> asyncio.run(eventually(lambda: next(values)))
    3
    """
    last: object = "nothing: the first observation did not return"
    try:
        async with asyncio.timeout(timeout_seconds) as bound:
            while True:
                asked_at = clock.monotonic_seconds()
                try:
                    value = observe()
                    seen = await value if inspect.isawaitable(value) else value
                    last = seen
                    if until(seen):
                        return seen
                except AssertionError as not_yet:
                    last = not_yet
                took_seconds = clock.monotonic_seconds() - asked_at
                await asyncio.sleep(max(interval_seconds, min(took_seconds, PAUSE_SECONDS_MAX)))
    except TimeoutError:
        if not bound.expired():
            raise
        what = getattr(observe, "__qualname__", repr(observe))
        raise AssertionError(f"{what} did not come true within {timeout_seconds:g} s; last seen: {last!r}") from None
