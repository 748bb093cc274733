"""What a job costs: bytes that NATS and Postgres keep of it, memory of nats-server, processor time of each process.

Everything is real except the image (synthetic renderer, the same object each time). Sizes are taken before and after
the jobs, so that what an empty installation takes is not counted.

Usage: python -m bench.scale [--jobs 10000]
"""

import argparse
import asyncio
import json
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
from bench.pipeline import JobTimes, at_full_speed

from dreamforge.cli.settings import CliSettings
from dreamforge.cli.stack.local import LocalStack
from dreamforge.cli.stack.plan import StackOptions
from dreamforge.cli.stack_record import StackRecord
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.testing import eventually

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Of the whole installation at one time."""

    streams: dict[str, tuple[int, int]]
    nats_rss_bytes: int
    nats_disk_bytes: int
    database_bytes: int
    processor_seconds: dict[str, float]


def usage_of(record: StackRecord) -> Usage:
    """As servers, the kernel and the disk say."""
    pids = {process.name: process.pid for process in record.processes}
    with psycopg.connect(record.settings["FORGE_DATABASE_URL"], autocommit=True) as database:
        row = database.execute("SELECT pg_database_size(current_database())").fetchone()
    files = (path for path in (record.folder / "nats").rglob("*") if path.is_file())
    return Usage(
        streams=_streams(record.settings["FORGE_NATS_MONITOR_URL"]),
        nats_rss_bytes=psutil.Process(pids["nats"]).memory_info().rss,
        nats_disk_bytes=sum(path.stat().st_blocks * 512 for path in files),
        database_bytes=int(row[0]) if row else 0,
        processor_seconds={name: _processor_seconds(pid) for name, pid in pids.items()},
    )


def _streams(monitor_url: str) -> dict[str, tuple[int, int]]:
    """Messages and bytes of each stream."""
    with urllib.request.urlopen(f"{monitor_url}/jsz?streams=true") as answer:
        found: dict[str, Any] = json.load(answer)  # Any: JSON
    details = [each for account in found["account_details"] for each in account["stream_detail"]]
    return {each["name"]: (int(each["state"]["messages"]), int(each["state"]["bytes"])) for each in details}


def _processor_seconds(pid: int) -> float:
    """Of a process and its children, dead ones included."""
    process = psutil.Process(pid)
    living = [process.cpu_times(), *(child.cpu_times() for child in process.children(recursive=True))]
    own = process.cpu_times()
    return float(sum(each.user + each.system for each in living) + own.children_user + own.children_system)


async def measure(record: StackRecord, jobs: int) -> None:
    """Run the jobs and print what they cost."""
    async with JobTimes.watching(record.settings["FORGE_NATS_URL"]) as watch:
        before = await asyncio.to_thread(usage_of, record)
        await at_full_speed(record.gateway_url, jobs, distinct=False)
        await watch.until_ended(jobs)
        await eventually(lambda: _rows(record), 60, until=lambda rows: rows == jobs)
        after = await asyncio.to_thread(usage_of, record)
    report(before, after, jobs)


def _rows(record: StackRecord) -> int:
    """Jobs that the read tables show as succeeded."""
    with psycopg.connect(record.settings["FORGE_DATABASE_URL"]) as database:
        row = database.execute("SELECT count(*) FROM jobs WHERE status = 'succeeded'").fetchone()
    return int(row[0]) if row else 0


def report(before: Usage, after: Usage, jobs: int) -> None:
    """One line for each cost, a job and a million."""
    for name, (messages, size) in sorted(after.streams.items()):
        old_messages, old_size = before.streams.get(name, (0, 0))
        if messages - old_messages >= jobs:
            print(f"stream {name:<9} {(messages - old_messages) / jobs:6.2f} messages a job")
            _print_bytes(f"stream {name}, in its files", size - old_size, jobs)
    _print_bytes("nats-server, on the disk", after.nats_disk_bytes - before.nats_disk_bytes, jobs)
    old, new = (usage.nats_rss_bytes / 2**20 for usage in (before, after))
    print(
        f"nats-server, in memory: {old:.0f} MiB before, {new:.0f} MiB after {jobs} jobs (caches included: not linear)"
    )
    _print_bytes("Postgres, on the disk", after.database_bytes - before.database_bytes, jobs)
    for name, seconds in after.processor_seconds.items():
        each = (seconds - before.processor_seconds.get(name, 0.0)) / jobs
        print(f"{name:<28} {each * 1000:8.2f} ms of processor time a job {each * MILLION / 3600:8.1f} h a million")


def _print_bytes(name: str, size: int, jobs: int) -> None:
    print(f"{name:<28} {size / jobs:8.0f} bytes a job {size / jobs * MILLION / 2**30:8.2f} GiB a million")


async def main(arguments: argparse.Namespace) -> None:
    """Start a stack of its own, measure, stop it."""
    os.environ["FORGE_RUNNER_SLOTS"] = "64"
    os.environ["FORGE_LOG_LEVEL"] = "WARNING"
    with tempfile.TemporaryDirectory() as folder:
        settings = CliSettings(_env_file=None, state_dir=Path(folder))
        async with LocalStack(settings, StackOptions(gateway_port=free_port(), renderer="synthetic")) as stack:
            await measure(stack.record(), arguments.jobs)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    return parser.parse_args(words)


if __name__ == "__main__":
    asyncio.run(main(parse()))
