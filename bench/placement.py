"""Placement by time beside placement by score: a simulation of fleets and queues around the real plan.

`python -m bench.placement` simulates synthetic mixed fleets over several seeds, and the fleet and queue of a real run
(`bench/recorded_fleet.json`, from `python -m dreamforge.scheduler.replay capture`). Both rules meet the same jobs,
arrivals and times. The score rule is the plan with heartbeats that tell no times, which is how it was before
decision 0061. `--speed` measures how long one plan takes instead.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from bench.simulated_fleet import Arrival, Outcome, RunnerModel, simulate
from bench.simulated_work import Scenario, recorded, synthetic

RECORDED = Path(__file__).parent / "recorded_fleet.json"


@dataclass(frozen=True, slots=True)
class Compared:
    """Seconds from request to end, of the same jobs under both rules."""

    by_score: Outcome
    by_time: Outcome


def compare(runners: Sequence[RunnerModel], arrivals: Sequence[Arrival], seed: int) -> Compared:
    """The same fleet and jobs under both rules."""
    return Compared(*(simulate(runners, arrivals, seed, tells_times=tells) for tells in (False, True)))


def row(name: str, found: Sequence[Compared]) -> str:
    """One line of the table: means over the seeds."""
    cells = []
    for what in ("mean_seconds", "p95_seconds"):
        before = mean(getattr(each.by_score, what) for each in found)
        after = mean(getattr(each.by_time, what) for each in found)
        cells.append(f"{before:8.1f} {after:8.1f} {100 * (after / before - 1):+6.1f} %")
    errors = [each.by_time.error_p50 for each in found]
    return f"{name:34}{cells[0]}   {cells[1]}   {100 * mean(errors):5.1f} %"


def main() -> None:
    """Print the comparison, or the speed of one plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each synthetic scenario (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=400, help="jobs of each run (default: %(default)s)")
    parser.add_argument("--speed", action="store_true", help="measure one plan of 100 runners and 10,000 jobs")
    options = parser.parse_args()
    if options.speed:
        from bench.plan_speed import main as measure

        measure()
        return
    print(f"{'':34}{'mean by score, by time':^27}   {'p95 by score, by time':^27}   error p50")
    for scenario in SCENARIOS:
        found = [compare(*synthetic(scenario, options.jobs, seed), seed) for seed in range(options.seeds)]
        print(row(scenario.name, found), flush=True)
    if RECORDED.exists():
        found = [compare(*recorded(RECORDED, options.jobs, seed), seed) for seed in range(options.seeds)]
        print(row("recorded fleet", found), flush=True)


SCENARIOS = (
    Scenario("2 fast, 2 slow, load 0.5", fast=2, slow=2, load=0.5),
    Scenario("2 fast, 2 slow, load 0.8", fast=2, slow=2, load=0.8),
    Scenario("1 fast, 4 slow, load 0.7", fast=1, slow=4, load=0.7),
    Scenario("4 fast, 4 slow, bursts", fast=4, slow=4, load=0.6, burst=12),
    Scenario("2 fast, 4 slow, slow disks", fast=2, slow=4, load=0.6, disk_bytes_per_second=1e8),
)


if __name__ == "__main__":
    main()
