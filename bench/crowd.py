"""Clients as they are: they retry with the same key, change their mind, and lose their stream and come back."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx

# Gateways die under them; what matters is that a client which keeps trying is served in the end.
GIVE_UP_SECONDS = 120.0
TERMINAL = ("succeeded", "failed", "cancelled")
OnAnswer = Callable[[str, float], Awaitable[None]]
TROUBLE = (httpx.HTTPError, OSError, json.JSONDecodeError)


@dataclass
class Seen:
    """What one SSE reader saw: (event name, id), in order, over all its connections."""

    job_id: str
    events: list[tuple[str, str]] = field(default_factory=list)
    connections: int = 0
    ended: bool = False


@dataclass
class Crowd:
    """All clients of one run."""

    gateways: tuple[str, ...]
    chance: random.Random
    client: httpx.AsyncClient
    on_answer: OnAnswer  # a gateway, and when the submission was sent that it has accepted
    accepted: dict[str, str] = field(default_factory=dict)  # job id -> idempotency key
    cancelled: set[str] = field(default_factory=set)
    readers: list[Seen] = field(default_factory=list)
    retries: int = 0
    loaded: bool = False  # everything was submitted
    renamed: int = 0  # a retried key that came back as another job: must stay 0

    async def submit(self, key: str, body: dict[str, object]) -> str:
        """POST until a 202, always with the same key. Errors: TimeoutError after GIVE_UP_SECONDS."""
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while True:
                gateway, sent = self.chance.choice(self.gateways), time.monotonic()
                with contextlib.suppress(*TROUBLE):
                    answer = await self.client.post(f"{gateway}/v1/jobs", json=body, headers={"Idempotency-Key": key})
                    if answer.status_code == 202:
                        await self.on_answer(gateway, sent)
                        return self._accept(key, answer.json()["job_id"])
                    if answer.status_code < 500 and answer.status_code != 429:
                        raise AssertionError(f"{answer.status_code}: {answer.text}")
                self.retries += 1
                await asyncio.sleep(self.chance.uniform(0.05, 0.4))

    def _accept(self, key: str, job_id: str) -> str:
        self.renamed += any(known == key and old != job_id for old, known in self.accepted.items())
        self.accepted[job_id] = key
        return job_id

    async def resubmit(self, key: str, body: dict[str, object]) -> None:
        """The same POST again, as a client does whose answer got lost."""
        await self.submit(key, body)

    async def cancel(self, job_id: str) -> None:
        """Ask for a cancel until somebody has heard it."""
        self.cancelled.add(job_id)
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while True:
                with contextlib.suppress(*TROUBLE):
                    answer = await self.client.post(self._url(f"/v1/jobs/{job_id}/cancel"))
                    if answer.status_code < 300:
                        return
                await asyncio.sleep(self.chance.uniform(0.05, 0.4))

    async def read(self, job_id: str) -> None:
        """Read a job's stream to its end, hanging up at random and resuming on any gateway."""
        seen = Seen(job_id)
        self.readers.append(seen)
        while not seen.ended:
            seen.connections += 1
            with contextlib.suppress(*TROUBLE, TimeoutError):
                async with asyncio.timeout(self.chance.uniform(0.3, 20.0)):
                    await self._read_some(seen)
            await asyncio.sleep(self.chance.uniform(0.0, 0.2))

    async def _read_some(self, seen: Seen) -> None:
        headers = {"Last-Event-ID": seen.events[-1][1]} if seen.events else {}
        url = self._url(f"/v1/jobs/{seen.job_id}/events")
        async with self.client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                await asyncio.sleep(0.2)
                return
            name, event_id = "", ""
            async for line in response.aiter_lines():
                if line.startswith("event:"):
                    name = line[6:].strip()
                elif line.startswith("id:"):
                    event_id = line[3:].strip()
                elif not line and event_id:
                    seen.events.append((name, event_id))
                    seen.ended = seen.ended or name in TERMINAL
                    name, event_id = "", ""

    def _url(self, path: str) -> str:
        return self.chance.choice(self.gateways) + path
