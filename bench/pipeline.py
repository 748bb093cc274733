"""The whole system with the synthetic renderer: latency to the start of a job, jobs accepted and completed a second.

Everything is real except the image: HTTP, fsynced log, scheduler, runner and its child, S3, Postgres. For the same
workload on other queues, in turns with this one on the same disk: `python -m bench.peers`. Rates are those of the
machine and of whatever else runs there; the processor time a job of each process hardly is, so it judges changes.

Usage: python -m bench.pipeline [--jobs 2000] [--rate 20] [--seconds 15] [--distinct] [--json FILE]
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.http_connection import HttpConnection
from bench.processor_time import per_job, processor_times
from bench.results import Metric, add_json_option, report
from bench.timing import percentile

from dreamforge.cli.settings import CliSettings
from dreamforge.cli.stack.local import LocalStack
from dreamforge.cli.stack.plan import StackOptions
from dreamforge.cli.stack_record import StackRecord
from dreamforge.contracts.events import JobStarted, JobSucceeded
from dreamforge.contracts.log.envelope import unseal
from dreamforge.contracts.log.subjects import published_by
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower

CONNECTIONS = 32
WARM_UP_JOBS = 50
QUANTILES = {"p50": 0.5, "p99": 0.99}


class JobTimes:
    """Follows the log beside the system: when each job started and when it ended."""

    def __init__(self) -> None:
        self.started: dict[str, float] = {}
        self.decided: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.reached = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def watching(cls, url: str) -> AsyncIterator["JobTimes"]:
        """Follow the log of a NATS server; ended before the server is stopped."""
        times, bus = cls(), await bus_module.connect(url, "bench")
        following = asyncio.create_task(times._follow(bus))
        try:
            yield times
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await bus.close()

    async def _follow(self, bus: Bus) -> None:
        async for batch in Follower(
            bus, "JOBS", (published_by(JobStarted, "*"), published_by(JobSucceeded, "*"))
        ).batches():
            now = time.time()
            for message in batch.messages:
                job_id = message.subject.split(".")[2]
                if f".{JobStarted.TOKEN}." in message.subject:
                    event = unseal(message.subject, message.headers, message.data, sequence=1).event
                    assert isinstance(event, JobStarted)
                    self.started[job_id], self.decided[job_id] = now, event.at.timestamp()
                else:
                    self.ended[job_id] = now
            async with self.reached:
                self.reached.notify_all()

    async def until_ended(self, count: int) -> None:
        """Wait until so many jobs have ended."""
        async with self.reached:
            await self.reached.wait_for(lambda: len(self.ended) >= count)


def body(number: int, distinct: bool) -> dict[str, object]:
    """A request; the same image every time unless `distinct` (then each one is a new object in S3)."""
    return {"model_id": "synthetic", "prompt": "a red circle", "seed": number if distinct else 7}


async def submit(connection: HttpConnection, number: int, distinct: bool) -> tuple[str, float, float]:
    """One job: its id, when it was sent, when its 202 was there."""
    sent = time.time()
    answer = await connection.post("/v1/jobs", body(number, distinct))
    assert answer.status == 202, answer
    return answer.body["job_id"], sent, time.time()


async def at_rate(url: str, rate: float, seconds: float, distinct: bool) -> dict[str, float]:
    """Submit at a steady rate; when each job was sent."""
    connections: asyncio.Queue[HttpConnection] = asyncio.Queue()
    for _ in range(8):
        connections.put_nowait(await HttpConnection.open(url))
    sent: dict[str, float] = {}

    async def one(number: int) -> None:
        connection = await connections.get()
        job_id, at, _ = await submit(connection, number, distinct)
        sent[job_id] = at
        connections.put_nowait(connection)

    began = time.perf_counter()
    tasks = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number)))
    await asyncio.gather(*tasks)
    return sent


async def at_full_speed(url: str, jobs: int, distinct: bool) -> tuple[float, float]:
    """Submit all as fast as they are accepted: first sent, last accepted."""
    left = iter(range(1_000_000, 1_000_000 + jobs))

    async def worker() -> None:
        connection = await HttpConnection.open(url)
        for number in left:
            await submit(connection, number, distinct)
        await connection.close()

    began = time.time()
    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    return began, time.time()


def latency(name: str, seconds: list[float]) -> list[Metric]:
    """Median and 99th percentile."""
    return [Metric.milliseconds(f"{name}_{at}", percentile(seconds, share)) for at, share in QUANTILES.items()]


def print_metrics(metrics: list[Metric]) -> None:
    """One line each."""
    for metric in metrics:
        print(f"{metric.name:<30} {metric.value:>8.1f} {metric.unit}")


async def measure(stack: StackRecord, arguments: argparse.Namespace) -> list[Metric]:
    """Warm up, then latency at a rate, then at full speed.

    `start_decided` is the time that JobStarted states, `start` when it is durable and was read from the log, `stored`
    when the picture is in S3 and JobSucceeded in the log. `processor` is the time at full speed.
    """
    async with JobTimes.watching(stack.settings["FORGE_NATS_URL"]) as watch:
        return await _measure(stack, watch, arguments)


async def _measure(stack: StackRecord, watch: JobTimes, arguments: argparse.Namespace) -> list[Metric]:
    url = stack.gateway_url
    distinct: bool = arguments.distinct
    await at_full_speed(url, WARM_UP_JOBS, distinct)
    await watch.until_ended(WARM_UP_JOBS)
    sent = await at_rate(url, arguments.rate, arguments.seconds, distinct)
    done = WARM_UP_JOBS + len(sent)
    await watch.until_ended(done)
    before = processor_times(stack.processes)
    began, accepted = await at_full_speed(url, arguments.jobs, distinct)
    await watch.until_ended(done + arguments.jobs)
    spent = per_job(before, processor_times(stack.processes), arguments.jobs)
    return [
        *latency("start_decided", [watch.decided[job] - at for job, at in sent.items()]),
        *latency("start", [watch.started[job] - at for job, at in sent.items()]),
        *latency("stored", [watch.ended[job] - at for job, at in sent.items()]),
        Metric.rate("enqueued", arguments.jobs / (accepted - began), "jobs/s"),
        Metric.rate("completed", arguments.jobs / (max(watch.ended.values()) - began), "jobs/s"),
        *spent,
    ]


async def main(arguments: argparse.Namespace) -> None:
    """Start a stack of its own, measure, stop it."""
    os.environ["FORGE_RUNNER_SLOTS"] = str(arguments.slots)
    os.environ["FORGE_LOG_LEVEL"] = "WARNING"
    with tempfile.TemporaryDirectory() as folder:
        settings = CliSettings(_env_file=None, state_dir=Path(folder))
        options = StackOptions(gateway_port=free_port(), runners=arguments.runners, renderer="synthetic")
        async with LocalStack(settings, options) as stack:
            metrics = await measure(stack.record(), arguments)
    print(
        f"synthetic renderer, fsync on, {'a new object each' if arguments.distinct else 'one object'}: latency at"
        f" {arguments.rate:g} jobs/s, rates with {CONNECTIONS} connections"
    )
    print_metrics(metrics)
    report("pipeline", metrics, arguments.json)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--runners", type=int, default=1)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--distinct", action="store_true", help="every image a new object in S3")
    add_json_option(parser)
    return parser.parse_args(words)


if __name__ == "__main__":
    asyncio.run(main(parse()))
