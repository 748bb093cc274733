"""The workload of bench.pipeline for another queue: warm up, a steady rate, then as fast as it takes tasks.

Runs in the environment of the peers, so nothing of this system is imported. The task does nothing but append its number
and the time to a file, one write of 16 bytes; that file is how the client knows when each task ran.
"""

import argparse
import asyncio
import os
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench.results import Metric, add_json_option, report
from bench.timing import percentile

CONNECTIONS = 32
WARM_UP_TASKS = 50
FIRST_AT_RATE, FIRST_AT_FULL_SPEED = 1_000, 1_000_000
#: For a worker to start, or for a queue that has lost a task.
PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.002
RECORD = struct.Struct("<Qd")
LOG_VARIABLE = "BENCH_TASK_LOG"


@cache
def _log() -> int:
    return os.open(os.environ[LOG_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(number: int) -> None:
    """The whole task: say that it runs. One write to a file opened for appending is atomic."""
    os.write(_log(), RECORD.pack(number, time.time()))


class TaskLog:
    """Reads what tasks have written."""

    def __init__(self) -> None:
        self._path = Path(os.environ[LOG_VARIABLE])
        self._path.touch()

    async def until(self, count: int) -> dict[int, float]:
        """When each task ran first, once so many have run. Errors: TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self._path.stat().st_size < count * RECORD.size or len(self.started()) < count:  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
        return self.started()

    def started(self) -> dict[int, float]:
        """When each task ran first."""
        found: dict[int, float] = {}
        data = self._path.read_bytes()
        for number, at in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
            found.setdefault(number, at)
        return found


class Peer(ABC):
    """The client of a queue."""

    name: str

    async def open(self) -> None:  # noqa: B027 - not every client has something to do
        """Connect."""

    async def close(self) -> None:  # noqa: B027
        """Disconnect."""

    @abstractmethod
    async def send(self, number: int) -> None:
        """Enqueue one task; returns when the queue has acknowledged it."""

    async def send_all(self, numbers: Iterator[int]) -> None:
        """Enqueue all, `CONNECTIONS` at a time, each of which waits for its acknowledgement."""

        async def worker() -> None:
            for number in numbers:
                await self.send(number)

        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))


async def at_rate(peer: Peer, rate: float, seconds: float) -> dict[int, float]:
    """Send at a steady rate; when each task was sent."""
    sent: dict[int, float] = {}
    tasks = []

    async def one(number: int) -> None:
        sent[number] = time.time()
        await peer.send(number)

    began = time.perf_counter()
    for place in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + place / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(FIRST_AT_RATE + place)))
    await asyncio.gather(*tasks)
    return sent


async def measure(peer: Peer, arguments: argparse.Namespace) -> list[Metric]:
    """The metrics that bench.pipeline has, too; `start` is when the task ran, `completed` counts tasks that ran."""
    log = TaskLog()
    await peer.open()
    await peer.send_all(iter(range(WARM_UP_TASKS)))
    await log.until(WARM_UP_TASKS)
    sent = await at_rate(peer, arguments.rate, arguments.seconds)
    done = WARM_UP_TASKS + len(sent)
    started = await log.until(done)
    latencies = [started[number] - at for number, at in sent.items()]
    began = time.time()
    await peer.send_all(iter(range(FIRST_AT_FULL_SPEED, FIRST_AT_FULL_SPEED + arguments.jobs)))
    accepted = time.time()
    started = await log.until(done + arguments.jobs)
    await peer.close()
    return [
        Metric.milliseconds("start_p50", percentile(latencies, 0.5)),
        Metric.milliseconds("start_p99", percentile(latencies, 0.99)),
        Metric.rate("enqueued", arguments.jobs / (accepted - began), "jobs/s"),
        Metric.rate("completed", arguments.jobs / (max(started.values()) - began), "jobs/s"),
    ]


def main(peer: Peer) -> None:
    """The client's command; a worker of the same queue must be running."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    add_json_option(parser)
    arguments = parser.parse_args()
    report(peer.name, asyncio.run(measure(peer, arguments)), arguments.json)
