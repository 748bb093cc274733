"""This system beside other queues, in turns on the same disk: `task bench:peers` or `python -m bench.peers`.

Celery and taskiq with a Redis server that fsyncs every write, and with one that writes nothing; Procrastinate with the
same Postgres as ours. They are installed into an environment of their own in the user's cache (`bench/peers/
requirements.txt`); what cannot be had here is named and left out. Every round starts each system anew, with empty
folders, in an order that changes from round to round.

Tasks do nothing. Ours is a whole job through the REST API all the same: five events, rows and a picture. Rates with 32
connections that each wait for their acknowledgement; latency at a steady low rate. A peer's `start` is when its task
runs, ours when JobStarted is durable and was read from the log; a peer's `completed` counts tasks that ran, ours
pictures that are stored.

Usage: python -m bench.peers [--rounds 5] [--jobs 2000] [--rate 20] [--seconds 15] [--only NAME ...] [--json FILE]
"""

import argparse
import asyncio
import sys
from pathlib import Path
from statistics import median

from bench import results
from bench.comparison import ratio
from bench.peers.environment import PeerEnvironment, PeerMissing, build
from bench.peers.redis_server import version_of
from bench.peers.systems import OURS, SYSTEMS, System, measure
from bench.results import Benchmark, Metric

ROOT = Path(__file__).parents[2]
METRICS = ("enqueued", "completed", "start_p50", "start_p99")
NAMES = {system.name.replace(", fsync ", "-").replace(" ", "-"): system for system in SYSTEMS}


def available(chosen: list[System], peers: PeerEnvironment | None) -> list[System]:
    """Those that can be measured here; says which cannot, and why."""
    found = []
    for system in chosen:
        if system.name != OURS and peers is None:
            print(f"left out: {system.name}: its packages are not installed")
        elif system.fsync is not None and (peers is None or peers.redis_server is None):
            print(f"left out: {system.name}: there is no Redis server (Debian: apt-get install redis-server)")
        else:
            found.append(system)
    return found


async def run(
    systems: list[System], peers: PeerEnvironment | None, arguments: argparse.Namespace
) -> dict[str, Benchmark]:
    """All rounds; each begins with another system."""
    options = [f"--{name}={getattr(arguments, name)}" for name in ("jobs", "rate", "seconds")]
    rounds: dict[str, list[list[Metric]]] = {system.name: [] for system in systems}
    for number in range(arguments.rounds):
        turn = number % len(systems)
        for system in systems[turn:] + systems[:turn]:
            metrics = await measure(system, peers, options)
            rounds[system.name].append([each for each in metrics if each.name in METRICS])
            print(f"round {number + 1} of {arguments.rounds}: {system.name}", file=sys.stderr, flush=True)
    command = f"python -m bench.peers {' '.join(options)}"
    return {name: results.joined(command, each) for name, each in rounds.items()}


def values_of(benchmark: Benchmark, name: str) -> tuple[float, ...]:
    """Of one metric, round by round."""
    return next(values for metric, values in benchmark.metrics if metric.name == name)


def print_tables(found: dict[str, Benchmark]) -> None:
    """A table for each metric: median, range, and ours as a multiple of the peer's."""
    for name in METRICS:
        metric = next(metric for metric, _ in next(iter(found.values())).metrics if metric.name == name)
        print(f"\n{name}, {metric.unit}, {metric.better} is better")
        for system, benchmark in found.items():
            values = values_of(benchmark, name)
            line = f"  {system:<22} {median(values):>8.1f}   ({min(values):.1f} to {max(values):.1f})"
            if system != OURS and OURS in found:
                ours = ratio(values, values_of(found[OURS], name))
                line += f"   ours / theirs {ours.mean:5.2f}   95 %: {ours.low:.2f} to {ours.high:.2f}"
            print(line)


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--only", nargs="+", choices=tuple(NAMES), default=list(NAMES), metavar="NAME",
                        help=f"of {', '.join(NAMES)}")  # fmt: skip
    parser.add_argument("--json", type=Path, default=ROOT / "out/peers.json", metavar="FILE")
    return parser.parse_args(words)


def main() -> int:
    """The command; 1 when nothing was measured."""
    arguments = parse()
    peers: PeerEnvironment | None = None
    try:
        peers = build()
    except PeerMissing as error:
        print(error)
    systems = available([NAMES[name] for name in arguments.only], peers)
    if not systems:
        return 1
    found = asyncio.run(run(systems, peers, arguments))
    redis = version_of(peers.redis_server) if peers and peers.redis_server else ""
    pins = [line for line in (ROOT / "bench/peers/requirements.txt").read_text().splitlines() if "==" in line]
    print_tables(found)
    print("\nwhat each keeps:")
    for system in systems:
        print(f"  {system.name}: {system.keeps}")
    results.write(arguments.json, found, peers={"redis": redis, "packages": pins})
    print(f"{redis}; results: {arguments.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
