"""Simulated clients: they retry with the same idempotency key, cancel, and lose their event stream and resume it."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx
from httpx_sse import EventSource

# Gateways are killed during a run; a client that keeps retrying must be served within this time.
GIVE_UP_SECONDS = 120.0
TERMINAL = ("succeeded", "failed", "cancelled")
OnAccepted = Callable[[str, float], Awaitable[None]]
TRANSIENT_ERRORS = (httpx.HTTPError, OSError, json.JSONDecodeError)


@dataclass
class StreamRecord:
    """What one SSE reader received: (id, data), in order, over all its connections."""

    job_id: str
    events: list[tuple[str, str]] = field(default_factory=list)
    connections: int = 0
    ended: bool = False


@dataclass
class ClientRecord:
    """What the clients of one run were promised, and what became of it for them."""

    accepted: dict[str, str] = field(default_factory=dict)  # job id -> idempotency key
    cancelled: set[str] = field(default_factory=set)
    readers: list[StreamRecord] = field(default_factory=list)
    retries: int = 0
    duplicated_keys: int = 0  # a retried key that came back as another job: must stay 0

    def accept(self, key: str, job_id: str) -> str:
        """A submission was accepted as this job."""
        self.duplicated_keys += any(known == key and old != job_id for old, known in self.accepted.items())
        self.accepted[job_id] = key
        return job_id


@dataclass
class LoadClients:
    """All clients of one run, over HTTP as it is."""

    gateways: tuple[str, ...]
    rng: random.Random
    client: httpx.AsyncClient
    on_accepted: OnAccepted  # called with the gateway and the time at which the accepted submission was sent
    record: ClientRecord = field(default_factory=ClientRecord)

    async def submit(self, key: str, body: dict[str, object]) -> str:
        """POST until a 202, always with the same key. Errors: TimeoutError after GIVE_UP_SECONDS."""
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while True:
                gateway, sent = self.rng.choice(self.gateways), time.monotonic()
                with contextlib.suppress(*TRANSIENT_ERRORS):
                    answer = await self.client.post(f"{gateway}/v1/jobs", json=body, headers={"Idempotency-Key": key})
                    if answer.status_code == 202:
                        await self.on_accepted(gateway, sent)
                        return self.record.accept(key, answer.json()["job_id"])
                    if answer.status_code < 500 and answer.status_code != 429:
                        raise AssertionError(f"{answer.status_code}: {answer.text}")
                self.record.retries += 1
                await asyncio.sleep(self.rng.uniform(0.05, 0.4))

    async def resubmit(self, key: str, body: dict[str, object]) -> None:
        """The same POST again, as a client does that lost the response."""
        await self.submit(key, body)

    async def cancel(self, job_id: str) -> None:
        """Ask for a cancel until a gateway accepts it."""
        self.record.cancelled.add(job_id)
        async with asyncio.timeout(GIVE_UP_SECONDS):
            while True:
                with contextlib.suppress(*TRANSIENT_ERRORS):
                    answer = await self.client.post(self._url(f"/v1/jobs/{job_id}/cancel"))
                    if answer.status_code < 300:
                        return
                await asyncio.sleep(self.rng.uniform(0.05, 0.4))

    async def read(self, job_id: str) -> None:
        """Read a job's stream to its end, disconnecting at random and resuming on any gateway."""
        record = StreamRecord(job_id)
        self.record.readers.append(record)
        while not record.ended:
            record.connections += 1
            with contextlib.suppress(*TRANSIENT_ERRORS, TimeoutError):
                async with asyncio.timeout(self.rng.uniform(0.3, 20.0)):
                    await self._read_some(record)
            await asyncio.sleep(self.rng.uniform(0.0, 0.2))

    async def _read_some(self, record: StreamRecord) -> None:
        headers = {"Last-Event-ID": record.events[-1][0]} if record.events else {}
        url = self._url(f"/v1/jobs/{record.job_id}/events")
        async with self.client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                await asyncio.sleep(0.2)
                return
            async for event in EventSource(response).aiter_sse():
                if not event.data:  # a heartbeat, or a frame with nothing but `retry`
                    continue
                record.events.append((event.id, event.data))
                record.ended = record.ended or event.event in TERMINAL

    def _url(self, path: str) -> str:
        return self.rng.choice(self.gateways) + path
