"""Waits until services answer that they work."""

import asyncio
from collections.abc import Callable

import httpx

FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.02, 0.2  # between questions, growing by half each time
ANSWER_SECONDS = 5.0


async def until_ready(url: str, gone: Callable[[], bool]) -> bool:
    """True once `url` answers 200; False as soon as `gone()` says that nobody will."""
    pause_seconds = FIRST_POLL_SECONDS
    # Plain HTTP on this machine: reading the certificates of the world for it would take 50 ms a service.
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False, verify=False) as client:
        while not await _answers(client, url):
            if gone():
                return False
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(LAST_POLL_SECONDS, pause_seconds * 1.5)
    return True


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
