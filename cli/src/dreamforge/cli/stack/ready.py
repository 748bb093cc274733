"""Asks services whether they are ready, once or until they are."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from dreamforge.contracts.errors import ANOTHER_LOG

FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.02, 0.2  # between polls, growing by half each time
ANSWER_SECONDS = 5.0


async def until_ready(url: str, failed: Callable[[], bool]) -> str | None:
    """ "" once `url` answers 200, a reason if only a person can decide how it becomes ready; None once `failed()`."""
    pause_seconds = FIRST_POLL_SECONDS
    async with _client() as client:
        while (answer := await _answer(client, url)) is None:
            if failed():
                return None
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(LAST_POLL_SECONDS, pause_seconds * 1.5)
    return answer


async def _answer(client: httpx.AsyncClient, url: str) -> str | None:
    try:
        response = await client.get(url)
        if response.status_code == httpx.codes.OK:
            return ""
        reasons = [str(reason) for reason in response.json().get("checks", {}).values()]
    except (httpx.HTTPError, ValueError, AttributeError):
        return None
    return next((reason for reason in reasons if ANOTHER_LOG in reason), None)


async def readiness_of(addresses: Mapping[str, str]) -> dict[str, dict[str, Any]]:  # Any: JSON
    """What /readyz of each service says, by name; `addresses` are host:port. No answer is a reason like any other."""
    async with _client() as client:
        answers = await asyncio.gather(*(_readyz(client, address) for address in addresses.values()))
    return dict(zip(addresses, answers, strict=True))


async def _readyz(client: httpx.AsyncClient, address: str) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = (await client.get(f"http://{address}/readyz")).json()
    except (httpx.HTTPError, ValueError) as error:
        return {"ready": False, "checks": {"process": f"no answer: {str(error) or type(error).__name__}"}}
    return answer


def _client() -> httpx.AsyncClient:
    """Plain HTTP on this machine: loading the CA certificates would take 50 ms a service."""
    return httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False, verify=False)
