"""The projection against its ceiling: a plain COPY of the rows it makes, into the same tables, in the same run.

Usage: python -m bench.projection [--events 100000] [--json FILE]

Prints events folded per second by the live projector and by a rebuild, each with its ratio to the COPY, and the time
from an append to the notice that its row is there. Servers sync to disk as in production, except that the log is
filled without fsync: filling is not what is measured.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import psycopg
from bench.results import Metric, add_json_option, report
from pydantic import SecretStr

from dreamforge.contracts.events import (
    ArtifactStored,
    Candidate,
    Decision,
    JobAssigned,
    JobEvent,
    JobRequested,
    JobStarted,
    JobSucceeded,
)
from dreamforge.contracts.log.envelope import Envelope, seal
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.tables import CHECKPOINT_CHANNEL
from dreamforge.migrations import upgrade
from dreamforge.projector.main import SERVICE
from dreamforge.projector.maintenance.rebuild import rebuild
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import clock, ids
from dreamforge.runtime.embedded import NatsServer, PostgresServer
from dreamforge.runtime.log import bus as nats
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.service import shell
from dreamforge.runtime.service.gc_tuning import infrequent_gc
from dreamforge.runtime.testing import eventually

TABLES = ("jobs", "attempts", "artifacts", "events")
OPEN_JOBS = 200  # how many jobs are under way at a time, so that a batch holds pieces of many
EVENTS_A_JOB = 5
LATENCY_SAMPLES = 200


def job_events(number: int) -> list[JobEvent]:
    """The events of one job in a fleet of three runners."""
    now = clock.now() + timedelta(milliseconds=number)
    request = RenderRequest(
        model_id="m", preset="p", prompt=f"a red circle, number {number}", width_px=64, height_px=64, steps=4,
        guidance_scale=1, seed=number,
    )  # fmt: skip
    candidates = tuple(Candidate(runner_id=f"r{n}", score=float(n), reasons=("model is loaded",)) for n in range(3))
    decision = Decision(
        waited_seconds=0.1, effective_priority=5, queue_length=1, required_bytes=1, candidates=candidates
    )
    digest = f"{number:064x}"
    return [
        JobRequested(at=now, tenant="t", request=request),
        JobAssigned(
            at=now, attempt=1, runner_id="r1", instance_id="i1", preset="p", estimated_vram_bytes=1, decision=decision
        ),
        JobStarted(at=now, attempt=1, runner_id="r1", instance_id="i1"),
        ArtifactStored(
            at=now, attempt=1, index=0, sha256=digest, size_bytes=1, content_type="image/png",
            width_px=64, height_px=64, seed=number, recipe={"prompt": request.prompt, "steps": 4, "seed": number},
        ),
        JobSucceeded(at=now, attempt=1, artifacts=(digest,), render_seconds=1.0),
    ]  # fmt: skip


def log(events: int) -> Iterator[Envelope]:
    """Many jobs at a time, each in order."""
    for first in range(0, events // EVENTS_A_JOB, OPEN_JOBS):
        jobs = [(ids.new_id(), job_events(first + number)) for number in range(OPEN_JOBS)]
        for place in range(EVENTS_A_JOB):
            for job_id, events_of_job in jobs:
                yield seal(events_of_job[place], entity_id=job_id, event_id=ids.new_id(), source="/dreamforge/bench")


async def fill(bus: Bus, events: int, after: int = 0) -> int:
    """Write so many events behind the first `after` of the log; give its length."""
    for number, envelope in enumerate(log(events)):
        await bus.nc.publish(envelope.subject, envelope.data, headers=envelope.headers)
        if number % 1_000 == 0:
            await bus.nc.flush()
            await stored(bus, after + number - 5_000)
    await bus.nc.flush()
    total = after + -(-(events // EVENTS_A_JOB) // OPEN_JOBS) * OPEN_JOBS * EVENTS_A_JOB
    await stored(bus, total)
    return total


async def stored(bus: Bus, sequence: int) -> None:
    """Wait until the server has taken what was published without acknowledgements."""
    await eventually(lambda: last_sequence(bus, "JOBS"), 60, until=lambda last: last >= sequence)


async def wait_for_notice(connection: "psycopg.AsyncConnection[tuple[object, ...]]", sequence: int) -> None:
    """Wait for the notice that JOBS is folded up to a sequence."""
    async for notice in connection.notifies():
        stream, place = notice.payload.split()
        if stream == "JOBS" and int(place) >= sequence:
            return


async def live(settings: ProjectorSettings, bus: Bus, total: int) -> tuple[float, list[float]]:
    """Seconds that the service takes from an empty database, then the latencies of single events."""
    url = settings.database_url.get_secret_value()
    stop = asyncio.Event()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as listener:
        await listener.execute(f"LISTEN {CHECKPOINT_CHANNEL}".encode())
        began = time.perf_counter()
        with infrequent_gc():  # as `python -m dreamforge.projector` does
            service = asyncio.create_task(shell.serve(SERVICE, settings, stop))
            await wait_for_notice(listener, total)
        seconds = time.perf_counter() - began
        latencies = [await latency(bus, listener) for _ in range(LATENCY_SAMPLES)]
        stop.set()
        await service
    return seconds, latencies


async def latency(bus: Bus, listener: "psycopg.AsyncConnection[tuple[object, ...]]") -> float:
    """From an append's acknowledgement to the notice."""
    envelope = seal(job_events(0)[0], entity_id=ids.new_id(), event_id=ids.new_id(), source="/dreamforge/bench")
    ack = await bus.js.publish(envelope.subject, envelope.data, headers=envelope.headers)
    began = time.perf_counter()
    await wait_for_notice(listener, ack.seq)
    return time.perf_counter() - began


async def plain_copy(url: str) -> tuple[float, int]:
    """Seconds to COPY the very same rows into equal, empty tables, indexes included; and how many rows."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        blocks, rows = {}, 0
        for table in TABLES:
            await connection.execute(f"CREATE TABLE copied_{table} (LIKE {table} INCLUDING ALL)".encode())
            async with connection.cursor().copy(f"COPY {table} TO STDOUT".encode()) as source:
                blocks[table] = [bytes(block) async for block in source]
            rows += len(blocks[table])
        began = time.perf_counter()
        async with connection.transaction():
            for table in TABLES:
                async with connection.cursor().copy(f"COPY copied_{table} FROM STDIN".encode()) as sink:
                    for block in blocks[table]:
                        await sink.write(block)
        seconds = time.perf_counter() - began
        for table in TABLES:
            await connection.execute(f"DROP TABLE copied_{table}".encode())
    return seconds, rows


async def main(events: int) -> list[Metric]:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            NatsServer(Path(folder) / "nats", fsync=False) as log_server,
            PostgresServer(Path(folder) / "pg") as tables_server,
        ):
            bus = await nats.connect(log_server.url, "bench")
            await ensure_streams(bus)
            upgrade(tables_server.url)
            settings = ProjectorSettings(
                nats_url=log_server.url, nats_allow_unsynced=True, database_url=SecretStr(tables_server.url),
                log_level="ERROR",
            )  # fmt: skip
            total = await fill(bus, events)
            live_seconds, latencies = await live(settings, bus, total)
            copy_seconds, rows = await plain_copy(tables_server.url)
            stages: dict[str, float] = {}
            rebuilt = await rebuild(
                settings, lambda progress: stages.update({progress.stage: progress.elapsed_seconds})
            )
            with suppress(Exception):
                await bus.close()
    print_report(total, rows, live_seconds, copy_seconds, rebuilt.seconds, latencies)
    print("of the rebuild           " + ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.items()))
    return [
        Metric.rate("live", total / live_seconds, "events/s"),
        Metric.rate("rebuild", total / rebuilt.seconds, "events/s"),
        Metric.milliseconds("notice_p50", statistics.median(latencies)),
    ]


def print_report(
    events: int, rows: int, live_seconds: float, copy_seconds: float, rebuild_seconds: float, latencies: list[float]
) -> None:
    """The numbers and their ratio to the COPY."""
    ordered = sorted(latencies)
    print(f"{events} events -> {rows} rows")
    print(f"plain COPY of the rows   {events / copy_seconds:9.0f} events/s   1.00")
    print(f"live projector           {events / live_seconds:9.0f} events/s   {copy_seconds / live_seconds:.2f}")
    print(f"rebuild, indexes, swap   {events / rebuild_seconds:9.0f} events/s   {copy_seconds / rebuild_seconds:.2f}")
    print(f"rebuild of 1,000,000 at this rate: {1e6 / (events / rebuild_seconds):.0f} s")
    p99 = ordered[int(len(ordered) * 0.99)]
    print(f"append to notice         p50 {statistics.median(ordered) * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    add_json_option(parser)
    arguments = parser.parse_args()
    report("projection", asyncio.run(main(arguments.events)), arguments.json)
