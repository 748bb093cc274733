"""Waiting for something that is unavailable: backoff with jitter, one log line a wait, for as long as it takes.

Ours and not stamina: most callers retry a session that works for a while and then ends, which `backoff` gives them as
a loop and stamina only as an exception of one call; its jitter is drawn from `random`, ours from `runtime.ids`; and its
log lines and metrics are switched off for the whole process or not at all.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from loguru import logger
from prometheus_client import Counter

from dreamforge.runtime import ids

T = TypeVar("T")
FIRST_SECONDS = 0.1
CAP_SECONDS = 5.0
RETRIES = Counter("forge_retries_total", "Tries that failed and are made again, by what they wait for", ["waiting_for"])


async def backoff(
    what: str, first_seconds: float = FIRST_SECONDS, cap_seconds: float = CAP_SECONDS
) -> AsyncIterator[int]:
    """Yield 1, 2, 3 ... with a growing, jittered pause between: `async for attempt in backoff("NATS"): try ...`.

    `what` is waited for; each pause counts in forge_retries_total under it, so it must be one of few words.
    """
    attempt, delay = 1, first_seconds
    while True:
        yield attempt
        RETRIES.labels(what).inc()
        await asyncio.sleep(ids.jitter(delay))
        attempt, delay = attempt + 1, min(cap_seconds, delay * 2)


async def until_it_works(what: str, call: Callable[[], Awaitable[T]], *errors: type[BaseException]) -> T:
    """Call until it succeeds, and log what is being waited for.

    Errors other than these are raised: name those only that end by themselves, as a server that comes back does.
    """
    async for attempt in backoff(what):
        try:
            return await call()
        except errors as error:
            logger.warning("waiting for {}: {} (try {})", what, str(error) or type(error).__name__, attempt)
    raise AssertionError("backoff never ends")
