"""Run a coroutine from plain code, also where an event loop already runs in this thread."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, from a loop of its own in a thread of its own.

    Sync fixtures may be set up while a test's loop runs, where `asyncio.run` would refuse; and `asyncio.run`
    would unset the loop that pytest-asyncio keeps for this thread.
    """
    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, coroutine).result()
