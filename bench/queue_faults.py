"""The load and the faults of `bench.queue_cases`."""

import argparse
import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import psycopg
from bench.bench_stack import BenchStack
from bench.clients import LoadClients
from bench.fault_targets import ServerProcess
from bench.log_observer import LogObserver
from bench.recovery import leading

from dreamforge.runtime.embedded import EmbeddedStack

SETTLE_SECONDS = 120.0
READERS = 4
LOW, HIGH = 2, 5  # priorities, three levels apart as there


@dataclass(slots=True)
class Bench:
    """What runs, and the load on it."""

    stack: EmbeddedStack
    services: BenchStack
    observer: LogObserver
    clients: LoadClients
    arguments: argparse.Namespace
    number: int = 0
    #: What the fault of the case that runs did, where that is a number.
    note: str = ""

    async def submit(self, priority: int = HIGH) -> str:
        """One job, retried until it is accepted; its id."""
        self.number += 1
        body: dict[str, object] = {
            "model_id": "synthetic", "prompt": "p", "seed": self.number, "steps": self.arguments.steps,
            "priority": priority,
        }  # fmt: skip
        return await self.clients.submit(f"case-{self.number}", body)

    async def offer(self, rate: float, seconds: float) -> list[str]:
        """Jobs at a steady rate; the ids of all, once all are accepted."""
        tasks = []
        loop = asyncio.get_running_loop()
        began = loop.time()
        for place in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + place / rate - loop.time()))
            tasks.append(asyncio.create_task(self.submit()))
        return list(await asyncio.gather(*tasks))

    async def ended(self, jobs: list[str]) -> None:
        """Wait until each has ended, or `SETTLE_SECONDS` have passed."""
        await self.observer.until(lambda: all(self.observer.terminal(job) for job in jobs), SETTLE_SECONDS)


Fault = Callable[[Bench], Awaitable[None]]


async def kill_runner(bench: Bench) -> None:
    """SIGKILL of a runner in the middle of its jobs; it starts again half a second later."""
    await bench.services.services["r1"].inject(signal.SIGKILL, 0)


async def kill_runner_again_and_again(bench: Bench) -> None:
    """Three kills, each when the runner that came back has jobs."""
    for _ in range(3):
        await bench.observer.until(lambda: bool(bench.observer.attempts_of("r1")), SETTLE_SECONDS)
        await kill_runner(bench)


async def kill_leader(bench: Bench) -> None:
    """SIGKILL of the scheduler that leads."""
    await (await leading(bench.services)).inject(signal.SIGKILL, 0)


async def restart_postgres(bench: Bench) -> None:
    """An orderly stop and a start."""
    await ServerProcess(bench.stack.postgres).inject(signal.SIGTERM, 0)


async def restart_nats(bench: Bench) -> None:
    """The same for the server that holds the queue here."""
    await ServerProcess(bench.stack.nats).inject(signal.SIGTERM, 0)


async def end_connections(bench: Bench) -> None:
    """Every connection to Postgres is ended, once a second, until the load has ended."""
    async with await _connect(bench) as connection:
        ended = 0
        for _ in range(max(1, int(bench.arguments.seconds / 2))):
            found = await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = current_user AND pid <> pg_backend_pid()"
            )
            ended += found.rowcount
            await asyncio.sleep(1.0)
        bench.note = f"{ended} connections ended"


@asynccontextmanager
async def connections_exhausted(bench: Bench) -> AsyncIterator[None]:
    """Idle connections are opened until Postgres refuses, and are kept."""
    held = 0
    async with AsyncExitStack() as stack:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                await stack.enter_async_context(await _connect(bench))
                held += 1
        bench.note = f"{held} connections held, until Postgres refused"
        yield


@asynccontextmanager
async def transaction_held(bench: Bench) -> AsyncIterator[None]:
    """A transaction with an id stays open and idle: vacuum can remove nothing that died after it."""
    async with await _connect(bench, autocommit=False) as connection:
        await connection.execute("SELECT pg_current_xact_id()")
        yield


@asynccontextmanager
async def readers_at_work(bench: Bench) -> AsyncIterator[None]:
    """Readers that scan the tables again and again, each in one REPEATABLE READ transaction."""

    scans = 0

    async def read() -> None:
        nonlocal scans
        async with await _connect(bench, autocommit=False) as connection:
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            while True:
                scans += 1
                await connection.execute("SELECT count(*), max(payload::text) FROM events")
                await asyncio.sleep(0.01)

    readers = [asyncio.create_task(read()) for _ in range(READERS)]
    yield
    bench.note = f"{scans} scans"
    for reader in readers:
        reader.cancel()
    failures = [each for each in await asyncio.gather(*readers, return_exceptions=True) if isinstance(each, Exception)]
    if failures:
        raise failures[0]


async def _connect(bench: Bench, autocommit: bool = True) -> "psycopg.AsyncConnection[tuple[object, ...]]":
    return await psycopg.AsyncConnection.connect(bench.stack.postgres.url, autocommit=autocommit)
