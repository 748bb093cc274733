"""What clients of `GET /v1/events` of one tenant cost: statements in Postgres and processor time of the gateway.

Jobs are requested, rendered and finished at a steady rate by events in the log, the projector writes the tables, and
every client gets every event. The same is measured without clients first: that is what the services take by themselves.

Usage: python -m bench.tenant_streams [--clients 20] [--jobs 20] [--seconds 5]
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
import uvloop
from bench.bench_stack import BenchStack
from bench.projection import job_events
from bench.streams import Received, StreamClient, until_ready
from bench.timing import clock

from dreamforge.runtime import ids
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as nats
from dreamforge.runtime.log.event_store import EventStore

# The projector and the clients end with what was appended; the statistics of Postgres are up to a second late.
SETTLE_SECONDS = 2.5


@dataclass(frozen=True, slots=True)
class Cost:
    """What a second of the work took."""

    statements: float
    processor_ms: float
    events: float


def statements_of(database_url: str) -> int:
    """Transactions of Postgres so far; a read of the gateway is one statement and one transaction."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute("SELECT sum(xact_commit)::bigint FROM pg_stat_database").fetchone()
        return int(row[0]) if row else 0


async def append_jobs(store: EventStore, rate: float, seconds: float) -> None:
    """Whole jobs, one after another; their events one at a time, as services append them."""
    began, number = clock(), 0
    while (now := clock() - began) < seconds:
        job_id, version = ids.new_id(), 0
        for event in job_events(number):
            version = await store.append(job_id, [event], expected=version)
        number += 1
        await asyncio.sleep(max(0.0, number / rate - now))


async def cost_of(
    work: Callable[[], Coroutine[Any, Any, None]], pid: int, database_url: str, received: Received
) -> Cost:
    """Of `work`, until it has settled."""
    process, began = psutil.Process(pid), clock()
    before = statements_of(database_url), sum(process.cpu_times()[:2]), received.events
    await work()
    took = clock() - began
    await asyncio.sleep(SETTLE_SECONDS)
    after = statements_of(database_url), sum(process.cpu_times()[:2]), received.events
    statements, processor, events = (b - a for a, b in zip(before, after, strict=True))
    return Cost(statements / took, 1e3 * processor / took, events / took)


async def main(arguments: argparse.Namespace) -> None:
    """Start, measure without clients and with them, print."""
    with tempfile.TemporaryDirectory() as name:
        async with EmbeddedStack(Path(name) / "servers") as stack:
            system = BenchStack(stack, Path(name))
            bus = await nats.connect(stack.nats.url, "bench")
            store = EventStore(bus, "/dreamforge/bench")
            try:
                system.add("projector", "projector")
                gateway = system.add("gateway", "gateway", FORGE_TENANT="t")
                where = gateway.spec
                await until_ready(f"http://{where.address}")
                assert gateway.process is not None
                url, received = stack.settings_env()["FORGE_DATABASE_URL"], Received(counting=True)
                measure = partial(cost_of, pid=gateway.process.pid, database_url=url, received=received)
                work = partial(append_jobs, store, arguments.jobs, arguments.seconds)
                print("no client    ", await measure(work))
                target = "/v1/events HTTP/1.1\r\nForge-Tenant: t\r\nX-Rest:"
                loop = asyncio.get_running_loop()
                for _ in range(arguments.clients):
                    _, client = await loop.create_connection(
                        partial(StreamClient, target, received), where.host, where.port
                    )
                    await client.begun.wait()
                print(f"{arguments.clients} clients", await measure(work))
            finally:
                await system.stop()
                await store.close()
                await bus.close()


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--jobs", type=float, default=20.0, help="jobs a second")
    parser.add_argument("--seconds", type=float, default=5.0)
    return parser.parse_args(words)


if __name__ == "__main__":
    uvloop.run(main(parse()))
