"""The cases of a public benchmark of job queues, for this system: steady load, too much load, and one fault each.

The benchmark is hardbyte's postgresql-job-queue-benchmarking (github.com/hardbyte/postgresql-job-queue-benchmarking),
which does this to eight queues in Postgres. The cases are its, the code is ours; docs/measurements/peers.md says what
was left out. Each case offers jobs at a steady rate for a while, with its fault in the middle, and then waits until
every accepted job has ended. Clients retry with the same idempotency key, as ours do.

A case fails when an accepted job has no end (`lost`), more than one (`twice`), or ended other than as succeeded.
`pause` is the longest time from the fault on in which no job ended, `drain` the time from the last submission to the
last end. Jobs take `--steps` times 20 ms; both runners together have 8 slots, so 16 jobs a second is what they can do.

Usage: python -m bench.queue_cases [--seconds 10] [--rate 12] [--only CASE ...] [--json FILE]
"""

import argparse
import asyncio
import contextlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import httpx
from bench.bench_stack import BenchStack
from bench.clients import LoadClients
from bench.log_observer import LogObserver
from bench.queue_faults import (
    LOW,
    SETTLE_SECONDS,
    Bench,
    Fault,
    connections_exhausted,
    end_connections,
    kill_leader,
    kill_runner,
    kill_runner_again_and_again,
    readers_at_work,
    restart_nats,
    restart_postgres,
    transaction_held,
)
from bench.results import Metric, add_json_option, report
from bench.timing import percentile

from dreamforge.contracts.events import JobRequested, JobSucceeded
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.streams import ensure_streams

STEP_SECONDS = 0.02
SLOTS_A_RUNNER = 4
RUNNERS = ("r1", "r2")
LOW_JOBS = 20
STORM_JOBS = 200
#: Waiting that is worth a level of priority; with the default of a minute the case would take minutes.
AGEING_SECONDS = "2"


@dataclass(slots=True)
class Outcome:
    """Of the jobs of one case."""

    name: str
    jobs: list[str]
    fault_at: float | None
    note: str = ""
    latencies: list[float] = field(default_factory=list)
    lost: int = 0
    twice: int = 0
    failed: int = 0
    pause_seconds: float = 0.0
    drain_seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Nothing lost, nothing twice, everything succeeded."""
        return not (self.lost or self.twice or self.failed)


def outcome(name: str, observer: LogObserver, jobs: list[str], fault_at: float | None, note: str = "") -> Outcome:
    """What the log says of them."""
    found = Outcome(name, jobs, fault_at, note)
    requested, ends = [], []
    for job in jobs:
        terminal = observer.terminal(job)
        found.lost += not terminal
        found.twice += len(terminal) > 1
        found.failed += bool(terminal) and not isinstance(terminal[0], JobSucceeded)
        at = next(event.at.timestamp() for _, event in observer.facts[job] if isinstance(event, JobRequested))
        requested.append(at)
        if terminal:
            ends.append(terminal[0].at.timestamp())
            found.latencies.append(ends[-1] - at)
    ends.sort()
    since = fault_at if fault_at is not None else ends[0]
    moments = [since, *(end for end in ends if end >= since)]
    found.pause_seconds = max((b - a for a, b in pairwise(moments)), default=0.0)
    found.drain_seconds = max(0.0, ends[-1] - max(requested))
    return found


async def under_load(name: str, bench: Bench, fault: Fault | None, times: float = 1.0) -> Outcome:
    """Jobs at the offered rate, the fault after a third of the time."""
    rate, seconds = bench.arguments.rate * times, bench.arguments.seconds
    offering = asyncio.create_task(bench.offer(rate, seconds))
    fault_at = None
    if fault is not None:
        await asyncio.sleep(seconds / 3)
        fault_at = time.time()
        await fault(bench)
    jobs = await offering
    await bench.ended(jobs)
    return outcome(name, bench.observer, jobs, fault_at)


async def retry_storm(name: str, bench: Bench) -> Outcome:
    """Many open jobs, and all that run fail at the same moment: both runners are killed."""
    submitting = [asyncio.create_task(bench.submit()) for _ in range(STORM_JOBS)]
    jobs = list(await asyncio.gather(*submitting))
    await bench.observer.until(lambda: all(bench.observer.attempts_of(runner) for runner in RUNNERS), SETTLE_SECONDS)
    fault_at = time.time()
    await asyncio.gather(*(bench.services.services[runner].inject(signal.SIGKILL, 0) for runner in RUNNERS))
    await bench.ended(jobs)
    return outcome(name, bench.observer, jobs, fault_at)


async def priority_starvation(name: str, bench: Bench) -> Outcome:
    """Jobs of low priority while more of a higher one come than can run; do the low ones end before the load does?"""
    low = list(await asyncio.gather(*(bench.submit(LOW) for _ in range(LOW_JOBS))))
    high = await bench.offer(2 * bench.arguments.rate, bench.arguments.seconds)
    last_offered = time.time()
    await bench.ended([*low, *high])
    ends = [event.at.timestamp() for job in low for event in bench.observer.terminal(job)]
    during = sum(end < last_offered for end in ends)
    note = f"{during} of {LOW_JOBS} of the lower priority ended while more of the higher came than could run"
    return outcome(name, bench.observer, [*low, *high], None, note)


@dataclass(frozen=True, slots=True)
class Case:
    """`around` holds for the whole load, `fault` happens once."""

    fault: Fault | None = None
    around: Callable[[Bench], AbstractAsyncContextManager[None]] | None = None
    times: float = 1.0

    async def run(self, name: str, bench: Bench) -> Outcome:
        """The load with what disturbs it."""
        bench.note = ""
        async with (self.around or contextlib.nullcontext)(bench):
            found = await under_load(name, bench, self.fault, self.times)
        return replace(found, note=bench.note)


CASES: dict[str, Callable[[str, Bench], Awaitable[Outcome]]] = {
    "clean": Case().run,
    "sustained_high_load": Case(times=1.5).run,
    "crash_recovery": Case(kill_runner).run,
    "repeated_kills": Case(kill_runner_again_and_again).run,
    "leader_failover": Case(kill_leader).run,
    "postgres_restart": Case(restart_postgres).run,
    "nats_restart": Case(restart_nats).run,
    "pg_backend_kill": Case(end_connections).run,
    "pool_exhaustion": Case(around=connections_exhausted).run,
    "idle_in_tx": Case(around=transaction_held).run,
    "active_readers": Case(around=readers_at_work).run,
    "retry_storm": retry_storm,
    "priority_starvation": priority_starvation,
}


async def run(arguments: argparse.Namespace, folder: Path) -> list[Outcome]:
    """One case after the other on one stack."""
    environment = {
        "FORGE_RUNNER_RENDERER": "synthetic",
        "FORGE_RUNNER_STEP_DELAY_SECONDS": str(STEP_SECONDS),
        "FORGE_RUNNER_SLOTS": str(SLOTS_A_RUNNER),
        "FORGE_RETRY_MAX_ATTEMPTS": "20",  # a fault of a case must not use up a job's attempts
        "FORGE_SCHEDULER_AGEING_LEVEL_SECONDS": AGEING_SECONDS,
    }
    async with EmbeddedStack(folder / "servers") as stack:
        services = BenchStack(stack, folder, **environment)
        gateway = services.add("gateway", "gateway")
        for name, kind in (("s1", "scheduler"), ("s2", "scheduler"), ("projector", "projector")):
            services.add(name, kind)
        for name in RUNNERS:
            services.add(name, "gpu-runner")
        bus = await bus_module.connect(stack.nats.url, "bench")
        await ensure_streams(bus)
        observer = LogObserver(bus)
        following = asyncio.create_task(observer.run())
        async with httpx.AsyncClient(timeout=10.0, limits=httpx.Limits(max_connections=None)) as client:

            async def accepted(_gateway: str, _sent: float) -> None:
                """Nothing is kept of it."""

            clients = LoadClients((f"http://{gateway.spec.address}",), random.Random(1), client, accepted)
            bench = Bench(stack, services, observer, clients, arguments)
            try:
                await bench.ended([await bench.submit()])
                return [await _reported(CASES[name](name, bench)) for name in arguments.only]
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                await services.stop()
                await bus.close()


async def _reported(case: Awaitable[Outcome]) -> Outcome:
    """One line, as soon as the case is over."""
    found = await case
    p50, p95 = (percentile(found.latencies, share) for share in (0.5, 0.95))
    print(
        f"{'ok  ' if found.passed else 'FAIL'} {found.name:<20} jobs {len(found.jobs):>4}  lost {found.lost}"
        f"  twice {found.twice}  failed {found.failed}  p50 {p50:5.2f} s  p95 {p95:5.2f} s"
        f"  pause {found.pause_seconds:5.2f} s  drain {found.drain_seconds:5.2f} s{found.note and '  ' + found.note}",
        flush=True,
    )
    return found


def metrics_of(found: list[Outcome]) -> list[Metric]:
    """What goes into the file."""
    values = [
        (f"{case.name}_{name}", value, unit)
        for case in found
        for name, value, unit in (
            ("lost", case.lost, "jobs"),
            ("twice", case.twice, "jobs"),
            ("failed", case.failed, "jobs"),
            ("p50", percentile(case.latencies, 0.5), "s"),
            ("p95", percentile(case.latencies, 0.95), "s"),
            ("pause", case.pause_seconds, "s"),
            ("drain", case.drain_seconds, "s"),
        )
    ]
    return [Metric(name, value, unit, "lower") for name, value, unit in values]


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long jobs are offered in a case")
    parser.add_argument("--rate", type=float, default=12.0, help="jobs a second")
    parser.add_argument("--steps", type=int, default=25, help="of 20 ms each")
    parser.add_argument("--only", nargs="+", choices=tuple(CASES), default=list(CASES), metavar="CASE")
    add_json_option(parser)
    return parser.parse_args(words)


def main() -> int:
    """1 when a case failed."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)  # for root, Postgres runs as another user and must reach its folder
        found = asyncio.run(run(arguments, Path(name)))
    report("queue_cases", metrics_of(found), arguments.json)
    return 0 if all(case.passed for case in found) else 1


if __name__ == "__main__":
    sys.exit(main())
