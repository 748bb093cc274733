"""Waits until services are ready."""

import asyncio
from collections.abc import Callable

import httpx

FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.02, 0.2  # between polls, growing by half each time
ANSWER_SECONDS = 5.0


async def until_ready(url: str, failed: Callable[[], bool]) -> bool:
    """True once `url` answers 200; False as soon as `failed()` is true."""
    pause_seconds = FIRST_POLL_SECONDS
    # Plain HTTP on this machine: loading the CA certificates would take 50 ms a service.
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False, verify=False) as client:
        while not await _answers(client, url):
            if failed():
                return False
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(LAST_POLL_SECONDS, pause_seconds * 1.5)
    return True


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
