"""Waiting for something that is away: backoff with jitter, said once a wait, for as long as it takes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from loguru import logger

from dreamforge.runtime import ids

T = TypeVar("T")
FIRST_SECONDS = 0.1
CAP_SECONDS = 5.0


async def backoff(first_seconds: float = FIRST_SECONDS, cap_seconds: float = CAP_SECONDS) -> AsyncIterator[int]:
    """Yield 1, 2, 3 ... with a growing, jittered pause between: `async for attempt in backoff(): try ...`."""
    attempt, delay = 1, first_seconds
    while True:
        yield attempt
        await asyncio.sleep(ids.jitter(delay))
        attempt, delay = attempt + 1, min(cap_seconds, delay * 2)


async def until_it_works(what: str, call: Callable[[], Awaitable[T]], *errors: type[BaseException]) -> T:
    """Call until it succeeds, saying clearly what is being waited for. Other errors pass through."""
    async for attempt in backoff():
        try:
            return await call()
        except errors as error:
            logger.warning("waiting for {}: {} (try {})", what, str(error) or type(error).__name__, attempt)
    raise AssertionError("backoff never ends")
