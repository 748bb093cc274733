"""What jobs cost to keep as their number grows: NATS, its memory and start, Postgres, the fold, and single reads.

One log is filled further and further, the projector follows it, and at each size everything is measured. If a cost is
linear, what the last jobs added is what the first ones added: `growth` is that ratio, 1 for linear. Sizes beyond the
last one are extrapolated with the line through the last two. The log is filled without fsync, which sizes do not show.

A job is the five events of one image, with three runners in its decision. STEPS, pictures and what an object store
keeps beside them are not in it: see docs/measurements/scale.md.

Usage: python -m bench.growth [--jobs 25000 50000 100000] [--json FILE]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from statistics import median

import httpx
import psycopg
from bench.projection import EVENTS_A_JOB, fill, wait_for_notice
from bench.results import Metric, add_json_option, report
from pydantic import SecretStr
from sqlalchemy import func, select

from dreamforge.contracts.tables import CHECKPOINT_CHANNEL, jobs
from dreamforge.gateway.read import queries
from dreamforge.gateway.read.database import Database
from dreamforge.migrations import upgrade
from dreamforge.projector.main import SERVICE
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime.embedded import NatsServer, PostgresServer
from dreamforge.runtime.log import bus as nats
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.service import shell
from dreamforge.runtime.service.gc_tuning import infrequent_gc
from dreamforge.runtime.service.telemetry import configure_logging

MILLION = 1_000_000
EXTRAPOLATED_JOBS = (MILLION, 10 * MILLION, 100 * MILLION)
READS = 200


@dataclass(frozen=True, slots=True)
class Size:
    """With so many jobs. Memory is that of nats-server just after a start, without caches."""

    jobs: int
    nats_disk_bytes: float
    nats_memory_bytes: float
    nats_start_seconds: float
    postgres_disk_bytes: float
    fold_seconds: float
    job_from_log_ms: float
    same_job_again_ms: float
    job_from_tables_ms: float
    page_ms: float
    page_of_unused_model_ms: float
    stored_bytes_ms: float


#: What grows with the jobs, and what should not.
TOTALS = ("nats_disk_bytes", "nats_memory_bytes", "nats_start_seconds", "postgres_disk_bytes", "fold_seconds")
READ_TIMES = (
    "job_from_log_ms",
    "same_job_again_ms",
    "job_from_tables_ms",
    "page_ms",
    "page_of_unused_model_ms",
    "stored_bytes_ms",
)


class Installation:
    """A log and its tables, and how far they are."""

    def __init__(self, log: NatsServer, tables: PostgresServer, bus: Bus) -> None:
        self._log, self._tables, self._bus = log, tables, bus
        self._events, self._fold_seconds = 0, 0.0

    async def grow(self, count: int) -> Size:
        """Fill it up to so many jobs and measure it."""
        self._events = await fill(self._bus, count * EVENTS_A_JOB - self._events, after=self._events)
        self._fold_seconds += await self._fold()
        reads = await self._reads()
        start_seconds, memory = await self._restart()
        files = (path for path in self._log.folder.rglob("*") if path.is_file())
        return Size(
            jobs=self._events // EVENTS_A_JOB,
            nats_disk_bytes=sum(path.stat().st_blocks * 512 for path in files),
            nats_memory_bytes=memory,
            nats_start_seconds=start_seconds,
            postgres_disk_bytes=await self._database_bytes(),
            fold_seconds=self._fold_seconds,
            **reads,
        )

    async def _fold(self) -> float:
        """Seconds of the projector from where the tables are to the end of the log."""
        stop = asyncio.Event()
        settings = ProjectorSettings(
            nats_url=self._log.url, nats_allow_unsynced=True, database_url=SecretStr(self._tables.url),
            log_level="ERROR",
        )  # fmt: skip
        async with await psycopg.AsyncConnection.connect(self._tables.url, autocommit=True) as listener:
            await listener.execute(f"LISTEN {CHECKPOINT_CHANNEL}".encode())
            began = time.perf_counter()
            with infrequent_gc():
                service = asyncio.create_task(shell.serve(SERVICE, settings, stop))
                await wait_for_notice(listener, self._events)
            seconds = time.perf_counter() - began
            stop.set()
            await service
        return seconds

    async def _reads(self) -> dict[str, float]:
        """What services ask for, median: a random job of the log, the same once more, and the gateway's statements."""
        database = Database(self._tables.url, pool_size=1, timeout_seconds=600.0)
        store = EventStore(self._bus, "/dreamforge/bench")
        some = select(jobs.c.job_id).order_by(func.random()).limit(READS)
        ids = [str(row["job_id"]) for row in await database.rows(some)]
        newest = partial(queries.page, status=None, after=None, limit=50, steps=True)
        found = {
            "job_from_log_ms": await _median_ms(store.load(each) for each in ids),
            "same_job_again_ms": await _median_ms(store.load(ids[-1]) for _ in ids),
            "job_from_tables_ms": await _median_ms(database.row(queries.job(each)) for each in ids),
            "page_ms": await _median_ms(database.rows(newest(tenant="t", model_id=None)) for _ in range(50)),
            "page_of_unused_model_ms": await _median_ms(
                database.rows(newest(tenant="t", model_id="none")) for _ in range(3)
            ),
            "stored_bytes_ms": await _median_ms(database.rows(queries.stored_bytes(None)) for _ in range(3)),
        }
        await database.close()
        return found

    async def _restart(self) -> tuple[float, float]:
        """Seconds that nats-server takes to start on these files, and its memory then."""
        await self._log.stop()
        began = time.perf_counter()
        await self._log.start()
        seconds = time.perf_counter() - began
        async with httpx.AsyncClient() as client:
            memory: int = (await client.get(f"{self._log.http_url}/varz")).json()["mem"]
        return seconds, memory

    async def _database_bytes(self) -> int:
        async with await psycopg.AsyncConnection.connect(self._tables.url, autocommit=True) as connection:
            row = await (await connection.execute("SELECT pg_database_size(current_database())")).fetchone()
        assert row is not None
        return int(row[0])


async def _median_ms(reads: Iterable[Awaitable[object]]) -> float:
    """One after the other."""
    seconds = []
    for read in reads:
        began = time.perf_counter()
        await read
        seconds.append(time.perf_counter() - began)
    return median(seconds) * 1e3


def growth(sizes: list[Size], name: str) -> float:
    """What one of the last jobs added, by what one of the first did; reads: the last by the first."""
    values = [float(getattr(size, name)) for size in sizes]
    if name in READ_TIMES:
        return values[-1] / values[0]
    first = (values[1] - values[0]) / (sizes[1].jobs - sizes[0].jobs)
    return _slope(sizes, name) / first


def _slope(sizes: list[Size], name: str) -> float:
    """Of the line through the last two sizes, a job."""
    before, last = sizes[-2], sizes[-1]
    return (float(getattr(last, name)) - float(getattr(before, name))) / (last.jobs - before.jobs)


def extrapolated(sizes: list[Size], name: str, jobs: int) -> float:
    """On the line through the last two sizes."""
    return float(getattr(sizes[-1], name)) + _slope(sizes, name) * (jobs - sizes[-1].jobs)


def in_units(name: str, value: float) -> str:
    """As it is printed: GiB, seconds or milliseconds."""
    if name.endswith("_bytes"):
        return f"{value / 2**30:.2f} GiB"
    return f"{value:.2f} ms" if name.endswith("_ms") else f"{value:.1f} s"


def print_table(sizes: list[Size]) -> None:
    """A row a cost: measured, growth, extrapolated."""
    measured = "".join(f"{size.jobs:>14,}" for size in sizes)
    beyond = [jobs for jobs in EXTRAPOLATED_JOBS if jobs > sizes[-1].jobs]
    print(f"{'jobs':<22}{measured}{'growth':>9}" + "".join(f"{jobs:>14,}*" for jobs in beyond))
    for name in (*TOTALS, *READ_TIMES):
        row = "".join(f"{in_units(name, getattr(size, name)):>14}" for size in sizes)
        more = "" if name in READ_TIMES else "".join(
            f"{in_units(name, extrapolated(sizes, name, jobs)):>15}" for jobs in beyond
        )  # fmt: skip
        print(f"{name:<22}{row}{growth(sizes, name):>9.2f}{more}")
    print("growth: what the last jobs added by what the first did (reads: last by first); * extrapolated")


async def measure(jobs: list[int]) -> list[Size]:
    """One installation at each size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with NatsServer(folder / "nats", fsync=False) as log, PostgresServer(folder / "pg") as tables:
            bus = await nats.connect(log.url, "bench")
            await ensure_streams(bus)
            upgrade(tables.url)
            installation = Installation(log, tables, bus)
            sizes = []
            for each in jobs:
                sizes.append(await installation.grow(each))
                print(f"{sizes[-1].jobs:,} jobs", flush=True)
            await bus.close()
    return sizes


def main() -> None:
    """Print the table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[25_000, 50_000, 100_000])
    add_json_option(parser)
    arguments = parser.parse_args()
    if len(arguments.jobs) < 2 or sorted(set(arguments.jobs)) != arguments.jobs:
        parser.error("--jobs needs at least two sizes, each larger than the one before")
    configure_logging("bench", level="ERROR")
    sizes = asyncio.run(measure(arguments.jobs))
    print_table(sizes)
    metrics = [
        Metric(f"{field.name}_{size.jobs}", float(getattr(size, field.name)), field.name.rpartition("_")[2], "lower")
        for size in sizes
        for field in fields(size)
        if field.name != "jobs"
    ]
    report("growth", metrics, arguments.json)


if __name__ == "__main__":
    main()
