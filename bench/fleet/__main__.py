"""A fleet on three hosts, cut apart: every fault under load, then the same checks as `bench.chaos`.

Three network namespaces with a NATS cluster (R3, TLS, a user each), Postgres with a standby, S3, two gateways, two
schedulers, two projectors and four runners with the synthetic renderer; a switch of our own between them. Needs Linux
and root. Prints a table; exits 1 unless every check passed. docs/measurements/fleet.md says what was found.

Usage: python -m bench.fleet [--fault NAME ...] [--seed N] [--minutes M] [--list] [--ceiling]
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.fleet.ceiling import print_ceiling
from bench.fleet.deployment import Deployment
from bench.fleet.faults import FAULTS, Fault, Kind, chosen
from bench.fleet.injector import FaultResult, Injector, TimedObserver
from bench.fleet.load_balancer import LoadBalancer
from bench.fleet.network import Network, problem_here
from bench.fleet.sdk_clients import IMAGES, PATIENT, SdkClients
from bench.invariants import CheckResult, check_invariants, print_table

from dreamforge.client.async_client import AsyncClient
from dreamforge.runtime.log.bus import connect

WARM_SECONDS = 4.0
SETTLE_SECONDS = 180.0


async def run(arguments: argparse.Namespace, folder: Path) -> bool:
    """One run; True if every check passed."""
    async with Network(arguments.seed) as network:
        if arguments.ceiling:
            await print_ceiling(network)
            return True
        faults = chosen(arguments.fault, arguments.seed)
        began = time.monotonic()
        moves = any(fault.kind is Kind.MOVE_CLOCK for fault in faults)
        older = arguments.upgrade_from.resolve() if arguments.upgrade_from else None
        async with Deployment(folder, network, arguments.step_delay_seconds, moves, older) as deployment:
            print(f"the fleet is whole after {time.monotonic() - began:.0f} s; {len(faults)} faults", flush=True)
            return await measure(deployment, faults, arguments)


async def measure(deployment: Deployment, faults: Sequence[Fault], arguments: argparse.Namespace) -> bool:
    """Load, the faults one by one, then the checks."""
    balancer = LoadBalancer(deployment.gateways(), random.Random(arguments.seed))
    bus = await connect(deployment.nats.admin_url, "observer")
    observer = TimedObserver(bus)
    following = asyncio.create_task(observer.run())
    url = deployment.gateways()[0]
    async with (
        AsyncClient(url, network=balancer) as client,
        AsyncClient(url, network=balancer, retries=PATIENT) as reader,
    ):
        clients = SdkClients(client, reader, balancer, random.Random(arguments.seed + 1), arguments.seed)
        began = time.monotonic()
        results = await load_and_faults(Injector(deployment, observer, clients), faults, arguments)
        if not await observer.until(lambda: not observer.open_jobs(), SETTLE_SECONDS):
            print(f"not finished: {sorted(observer.open_jobs())[:10]}")
        await clients.finish_reading(SETTLE_SECONDS)
        seconds = time.monotonic() - began
        checking = time.monotonic()
        lines = await check_invariants(
            observer, clients.record, deployment.storage_settings(), IMAGES, steps_survive=False
        )
    following.cancel()
    await bus.close()
    only_upgrades = all(fault.kind is Kind.UPGRADE for fault in faults)
    lines.append(CheckResult("calls that the SDK gave up", len(clients.given_up), 0 if only_upgrades else None))
    lines.append(CheckResult("services that ended by themselves", ", ".join(deployment.own_ends()) or "none", "none"))
    lines.append(CheckResult("not whole again", sum(bool(each.missing) for each in results), 0))
    lines.append(CheckResult("jobs/s while faults were injected", f"{len(clients.record.accepted) / seconds:.1f}"))
    print(f"\nfleet: {len(results)} faults, seed {arguments.seed}, {seconds:.0f} s")
    passed = print_table(lines, time.monotonic() - checking)
    print_results(results)
    for each in (*sorted(set(clients.given_up)), *deployment.manager.problems):
        print(f"    {each}")
    if arguments.json:
        checks = {line.what: str(line.actual) for line in lines}
        arguments.json.write_text(
            json.dumps({"faults": [asdict(each) for each in results], "checks": checks}, indent=1)
        )
    return passed


async def load_and_faults(
    injector: Injector, faults: Sequence[Fault], arguments: argparse.Namespace
) -> list[FaultResult]:
    """As many of the faults as the time allows, while jobs are submitted at a steady rate."""
    stop = asyncio.Event()
    loading = asyncio.create_task(injector.clients.load(arguments.rate, stop))
    until = time.monotonic() + arguments.minutes * 60
    results: list[FaultResult] = []
    for fault in faults:
        await asyncio.sleep(WARM_SECONDS)
        if time.monotonic() > until:
            print(f"the time is over: {len(faults) - len(results)} faults were not injected")
            break
        results.append(await injector.inject(fault))
        print(_line(results[-1]), flush=True)
    await asyncio.sleep(WARM_SECONDS)
    stop.set()
    await loading
    return results


HEAD = f"    {'fault':<24} {'held':>6} {'submit':>7} {'pause':>7} {'jobs':>7} {'whole':>7}"


def print_results(results: Sequence[FaultResult]) -> None:
    """One line a fault; the columns are those of `FaultResult`."""
    print(f"\n    seconds\n{HEAD}")
    for each in sorted(results, key=lambda result: list(FAULTS).index(result.name)):
        print(_line(each))


def _line(of: FaultResult) -> str:
    seconds = (of.held, of.slowest_submission, of.longest_pause, of.jobs_under_way, of.whole)
    numbers = " ".join(f"{value:>7.1f}" for value in seconds).removeprefix(" ")
    more = f"  failover {', '.join(of.failovers)}" if of.failovers else ""
    return f"    {of.name:<24} {numbers}{more}" + (f"  WITHOUT {', '.join(of.missing)}" if of.missing else "")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", nargs="*", default=[], help="names, or what they begin with; default: all")
    parser.add_argument("--list", action="store_true", help="print the names of the faults")
    parser.add_argument("--ceiling", action="store_true", help="measure what the switch carries at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0, help="no further fault is injected after this time")
    parser.add_argument("--rate", type=float, default=2.0, help="jobs a second")
    parser.add_argument("--step-delay-seconds", type=float, default=0.1, help="of the synthetic renderer; 12 steps")
    parser.add_argument("--folder", type=Path, help="where everything lies; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the folder, for its logs")
    parser.add_argument("--upgrade-from", type=Path, help="services run this checkout of an earlier release first")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    return parser.parse_args(words)


def main() -> None:
    """The command."""
    arguments = parse()
    if arguments.list:
        print("\n".join(FAULTS))
        return
    if problem := problem_here():
        sys.exit(f"bench.fleet cannot run here: {problem}")
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="dreamforge-fleet-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)  # Postgres runs as another user
    passed = False
    try:
        passed = asyncio.run(run(arguments, folder.resolve()))
    finally:
        if arguments.keep:
            print(f"logs: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
