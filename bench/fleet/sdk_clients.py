"""Load through the client SDK: jobs at a steady rate under idempotency keys, some cancelled, some followed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

from bench.clients import ClientRecord, StreamRecord
from bench.fleet.load_balancer import LoadBalancer

from dreamforge.client.async_client import AsyncClient
from dreamforge.client.errors import ClientError
from dreamforge.client.retries import Retries

T = TypeVar("T")
IMAGES = 2
READ_SHARE, REPEAT_SHARE, CANCEL_SHARE = 0.2, 0.05, 0.1
# A reader goes on for as long as a fault lasts; the SDK's default gives up after about ten seconds.
PATIENT = Retries(tries=1_000)
PAUSE_SECONDS = 0.5


@dataclass
class SdkClients:
    """`accepted_at`: each submission with when it was begun and the seconds until it was accepted.

    `given_up` has what the SDK raised after its own retries; the application then calls again under the same key.
    """

    client: AsyncClient
    reader: AsyncClient
    balancer: LoadBalancer
    rng: random.Random
    seed: int
    record: ClientRecord = field(default_factory=ClientRecord)
    accepted_at: list[tuple[float, float]] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    _number: int = 0
    _running: "list[asyncio.Task[None]]" = field(default_factory=list)
    _reading: "list[asyncio.Task[None]]" = field(default_factory=list)

    async def load(self, jobs_per_second: float, stop: asyncio.Event) -> None:
        """Submit until told to stop, then wait until all is accepted."""
        while not stop.is_set():
            self._number += 1
            self._running.append(asyncio.create_task(self._one(self._number)))
            await asyncio.sleep(self.rng.expovariate(jobs_per_second))
        await asyncio.gather(*self._running)

    async def finish_reading(self, seconds: float) -> None:
        """Wait until every reader saw the end of its job."""
        if self._reading:
            _, late = await asyncio.wait(self._reading, timeout=seconds)
            for task in late:
                task.cancel()
        for each in self.record.readers:
            each.connections = self.balancer.streams[f"/v1/jobs/{each.job_id}/events"]
        self.record.retries = self.balancer.failures.total()

    async def _one(self, number: int) -> None:
        key = f"fleet-{self.seed}-{number}"
        job_id = await self._submit(key, number)
        if self.rng.random() < READ_SHARE:
            self._reading.append(asyncio.create_task(self._read(job_id)))
        if self.rng.random() < REPEAT_SHARE:
            await self._submit(key, number)
        if self.rng.random() < CANCEL_SHARE:
            await asyncio.sleep(self.rng.uniform(0.0, 3.0))
            self.record.cancelled.add(job_id)
            await self._until_done(lambda: self.client.jobs.cancel(job_id))

    async def _submit(self, key: str, number: int) -> str:
        began = time.monotonic()
        job = await self._until_done(
            lambda: self.client.jobs.create(
                idempotency_key=key,
                prompt=f"image {number}",
                seed=number,
                steps=12,
                images=IMAGES,
                model_id="synthetic",
            )
        )
        self.accepted_at.append((began, time.monotonic() - began))
        return self.record.accept(key, job.id)

    async def _until_done(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except ClientError as error:
                self.given_up.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(PAUSE_SECONDS)

    async def _read(self, job_id: str) -> None:
        record = StreamRecord(job_id)
        self.record.readers.append(record)
        async with aclosing(self.reader.session.events(f"/v1/jobs/{job_id}/events")) as messages:
            async for message in messages:
                record.events.append((message.id, message.data))
        record.ended = True
