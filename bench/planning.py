"""How long plans take in a large fleet: 1,000 runners, 100,000 queued jobs of 1,000 shapes and 1,000 tenants.

`python -m bench.planning`. Full: every runner is idle and nothing is known from before. Incremental: one runner is
idle again and one job comes, and what was known before is kept. Each with and without measured times, with jobs that
have waited for long and with fresh ones, and with shapes that fit nowhere. Processor time; of several runs the median
and the slowest. `--open-jobs` folds so many requests instead, and says how long that takes and what memory it holds.
"""

import argparse
import gc
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from statistics import median
from time import perf_counter, process_time

from bench.planning_work import MODELS, NOON, Work, WorkSizes, folded_log

from dreamforge.runtime.service.gc_tuning import SERVICE_ALLOCATIONS, gc_of_a_service, leave_out_what_is_there
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.plan import PlannedAssignment, plan, plan_from
from dreamforge.scheduler.planning.snapshot import Snapshot

MS = 1000.0
#: Runs before the index has seen every model.
WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of each run, and how many jobs the runs assigned."""

    seconds: list[float]
    assignments: int

    def __str__(self) -> str:
        return f"{MS * median(self.seconds):9.2f} {MS * max(self.seconds):9.2f}   {self.assignments}"


def full(work: Work, runs: int) -> Timed:
    """All runners idle, from values alone."""
    loads = work.loads(work.fleet())
    return _timed(lambda: plan(loads, work.snapshot, MODELS, NOON), runs)


def kept(work: Work, runs: int) -> Timed:
    """All runners idle, with what was known before."""
    index = FleetIndex.of(work.loads(work.fleet()), MODELS)
    plan_from(index, work.snapshot, NOON)
    return _timed(lambda: plan_from(index, work.snapshot, NOON), runs)


def incremental(work: Work, runs: int) -> Timed:
    """All runners have work, and one job ends: its runner's heartbeat, a new job, and the plan that follows."""
    fleet, seconds, assigned = work.fleet(), [], 0
    work.occupy(fleet)
    index = FleetIndex.of(work.loads(fleet), MODELS)
    for number in range(runs + WARM_UP):
        runner = fleet[number * 7 % len(fleet)]
        now = NOON + timedelta(seconds=number / 50)
        heartbeat = work.after_a_run(runner)
        work.finish(runner.runner_id)
        began = process_time()
        index.place(heartbeat, work.snapshot)
        work.request(now)
        index.follow(work.snapshot)
        found = plan_from(index, work.snapshot, now)
        seconds.append(process_time() - began)
        assigned += len(found)
        work.apply(found, now)
    return Timed(seconds[WARM_UP:], assigned)


def _timed(run: Callable[[], tuple[PlannedAssignment, ...]], runs: int) -> Timed:
    seconds, found = [], 0
    for _ in range(runs):
        gc.collect()
        began = process_time()
        found = len(run())
        seconds.append(process_time() - began)
    return Timed(seconds, found)


def rows(sizes: WorkSizes, runs: int) -> Iterator[tuple[str, Timed]]:
    """Each state with its times."""
    for measured, fresh in product((False, True), repeat=2):
        work = Work(sizes, measured=measured, fresh=fresh)
        state = (
            f"{'times measured' if measured else 'nothing measured'}, {'fresh jobs' if fresh else 'jobs that waited'}"
        )
        yield f"full, {state}", full(work, runs)
        yield f"full again, {state}", kept(work, runs)
        yield f"incremental, {state}", incremental(work, 20 * runs)


@contextmanager
def longest_pauses() -> Iterator[dict[int, float]]:
    """The longest search for cycles inside, in seconds, by generation."""
    longest: dict[int, float] = {}
    began = 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = perf_counter()
        else:
            longest[info["generation"]] = max(longest.get(info["generation"], 0.0), perf_counter() - began)

    gc.callbacks.append(note)
    try:
        yield longest
    finally:
        gc.callbacks.remove(note)


def fold(jobs: int) -> None:
    """Time and memory of a fold of so many requests, and how long a search for cycles stops who has them."""
    with gc_of_a_service(SERVICE_ALLOCATIONS):
        snapshot = _folded(jobs)
        print("twice a quarter as many jobs again, longest search for cycles:", end=" ")
        for frozen in (False, True):
            if frozen:
                leave_out_what_is_there()
            with longest_pauses() as longest:
                folded_log(WorkSizes(0, jobs // 4, 1_000, 1_000), snapshot, after=(5 + frozen) * jobs // 4)
            what = "what was folded left out" if frozen else "as it is"
            print(f"{what}: {1000 * max(longest.values(), default=0.0):.1f} ms", end="\n" if frozen else ", ")


def _folded(jobs: int) -> Snapshot:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, snapshot = folded_log(WorkSizes(0, jobs, 1_000, 1_000))
    held = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"{jobs} open jobs: {seconds:.1f} s, {jobs / seconds:.0f} events/s, {held / 2**20:.0f} MiB,", end=" ")
    print(f"{held / jobs:.0f} bytes a job, {len(snapshot.queue)} queued")
    return snapshot


def main() -> None:
    """Print a line for each state."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runners", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--shapes", type=int, default=1_000)
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=5, help="of each (default: %(default)s)")
    parser.add_argument("--open-jobs", type=int, default=0, help="fold so many requests instead")
    options = parser.parse_args()
    if options.open_jobs:
        fold(options.open_jobs)
        return
    print(f"{'':52}{'median':>9} {'slowest':>9} ms   assignments", flush=True)
    for name, timed in rows(WorkSizes(options.runners, options.jobs, options.shapes, options.tenants), options.runs):
        print(f"{name:52}{timed}", flush=True)


if __name__ == "__main__":
    main()
