"""Kill everything, at random, under load; then check that nothing was lost and nothing happened twice.

Real processes on one machine: two gateways, two schedulers, two projectors, several runners (one with the real
renderer), NATS, Postgres and S3. Clients submit with idempotency keys and retry, a tenth of the jobs is cancelled at
random moments, SSE readers hang up and resume. SIGKILL, SIGTERM, and SIGSTOP for longer than a lease, at random.
Prints one table; exits 1 unless every line holds. The same seed makes the same choices, not the same races.

Usage: python -m bench.chaos --jobs 2000 --kills 300 --seed 1 [--targets runner,scheduler] [--real 1] [--keep]
"""

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from bench.crowd import Crowd
from bench.ledger import PROJECTED, Ledger
from bench.verdict import Line, clock, print_table, verdict
from bench.victims import Child, Server, Service, Victim

from dreamforge.cli.stack.plan import ServiceSpec
from dreamforge.contracts.fleet import LEASE_SECONDS
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.service.settings import CommonSettings

TARGETS = ("gateway", "scheduler", "runner", "child", "projector", "nats", "postgres", "s3")
# Shares of the signals: mostly the worst one.
SIGNALS = (signal.SIGKILL,) * 6 + (signal.SIGTERM,) * 2 + (signal.SIGSTOP,) * 2
STOPPED_SECONDS = (LEASE_SECONDS + 1.0, LEASE_SECONDS + 4.0)
RECOVERY_SECONDS = 60.0
IMAGES = 2


@dataclass
class Storm:
    """One run: what it started, and how long each victim took to be over it."""

    arguments: argparse.Namespace
    folder: Path
    stack: EmbeddedStack
    chance: random.Random
    services: list[Service] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    watching: "set[asyncio.Task[None]]" = field(default_factory=set)

    def environment(self) -> dict[str, str]:
        """What every service gets."""
        own = {
            "FORGE_STATE_DIR": str(self.folder),
            "FORGE_LOG_JSON": "false",
            "FORGE_RETRY_MAX_ATTEMPTS": "50",  # jobs shall fail for their own sake only
            "FORGE_RETRY_CAP_SECONDS": "2",
            "FORGE_RUNNER_STALL_SECONDS": "10",
            "FORGE_RUNNER_STEP_DELAY_SECONDS": str(self.arguments.step_delay_seconds),
            "FORGE_RUNNER_DRAIN_SECONDS": "5",
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **self.stack.settings_env(), **own}

    def add(self, name: str, kind: str, count: int, **environment: str) -> None:
        """Start `count` services of a kind."""
        for number in range(1, count + 1):
            port = free_port()
            where = {"FORGE_HEALTH_PORT": str(port)}
            if kind == "gateway":
                where = {"FORGE_GATEWAY_PORT": str(port)}
            if kind == "gpu-runner":
                where["FORGE_RUNNER_ID"] = f"{name}-{number}"
            spec = ServiceSpec(f"{name}-{number}", kind, "127.0.0.1", port, {**where, **environment})
            service = Service(spec, self.environment(), self.folder / f"{spec.name}.log")
            service.start()
            self.services.append(service)

    def gateways(self) -> tuple[str, ...]:
        """Their addresses."""
        return tuple(f"http://{s.spec.address}" for s in self.services if s.kind == "gateway")

    def victims(self) -> dict[str, list[Victim]]:
        """Everything that may be hurt, by target."""
        found: dict[str, list[Victim]] = defaultdict(list)
        for service in self.services:
            found[service.kind].append(service)
            if service.kind == "runner":
                found["child"].append(Child(service))
        for server in self.stack.servers:
            found[server.name].append(Server(server))
        return {target: found[target] for target in self.arguments.targets}

    async def rage(self, ledger: Ledger, seconds: float) -> int:
        """Spread the kills over a time; how many were done."""
        victims = self.victims()
        done = 0
        for _ in range(self.arguments.kills):
            await asyncio.sleep(self.chance.expovariate(self.arguments.kills / seconds))
            target = self.chance.choice(sorted(victims))
            victim = self.chance.choice(victims[target])
            how = self.chance.choice(SIGNALS)
            task = asyncio.create_task(self._hurt(victim, how, ledger))
            self.watching.add(task)
            task.add_done_callback(self.watching.discard)
            done += 1
        await asyncio.gather(*self.watching)
        return done

    async def _hurt(self, victim: Victim, how: signal.Signals, ledger: Ledger) -> None:
        held = ledger.held_by(_runner_id(victim))
        began = clock()
        hurting = asyncio.create_task(victim.hurt(how, self.chance.uniform(*STOPPED_SECONDS)))
        name = f"{victim.kind} {how.name}"
        if held:
            await asyncio.gather(*(self._runs_again(name, ledger, job, n, began) for job, n in held.items()))
        elif token := _progress_of(victim):
            await self._progress(name, ledger, token, began)
        await hurting

    async def _runs_again(self, name: str, ledger: Ledger, job_id: str, attempt: int, began: float) -> None:
        if await ledger.until(lambda: ledger.runs_again(job_id, attempt), RECOVERY_SECONDS):
            self.recoveries[name].append(clock() - began)

    async def _progress(self, name: str, ledger: Ledger, token: str, began: float) -> None:
        """The next fact of a kind after the blow."""

        def moved() -> bool:
            return ledger.latest.get(token, 0.0) > began or not ledger.open_jobs()

        if await ledger.until(moved, RECOVERY_SECONDS) and ledger.latest.get(token, 0.0) > began:
            self.recoveries[name].append(clock() - began)


# What shows that a victim of this kind is at work again: a fact, or something noted.
PROGRESS = {
    "scheduler": "assigned",
    "nats": "started",
    "s3": "succeeded",
    "projector": PROJECTED,
    "postgres": PROJECTED,
}


def _progress_of(victim: Victim) -> str:
    """The word of `Ledger.latest` to wait for; a gateway's own address, where jobs are accepted again."""
    if isinstance(victim, Service) and victim.kind == "gateway":
        return f"http://{victim.spec.address}"
    return PROGRESS.get(victim.kind, "")


def _runner_id(victim: Victim) -> str:
    service = victim.runner if isinstance(victim, Child) else victim
    return service.spec.environment.get("FORGE_RUNNER_ID", "") if isinstance(service, Service) else ""


async def load(crowd: Crowd, arguments: argparse.Namespace, seconds: float) -> None:
    """Submit all jobs over a time; cancel a tenth, read a fifth, repeat a twentieth."""
    chance = crowd.chance
    life: list[asyncio.Task[None]] = []

    async def one(number: int) -> None:
        model = "synthetic" if number % 40 or not arguments.real else None
        body: dict[str, object] = {"prompt": f"picture {number}", "seed": number, "steps": 12, "images": IMAGES}
        key = f"chaos-{arguments.seed}-{number}"
        job_id = await crowd.submit(key, body | ({"model_id": model} if model else {"model_id": arguments.real_model}))
        if chance.random() < 0.2:
            life.append(asyncio.create_task(crowd.read(job_id)))
        if chance.random() < 0.05:
            await crowd.resubmit(key, body | ({"model_id": model} if model else {"model_id": arguments.real_model}))
        if chance.random() < 0.1:
            await asyncio.sleep(chance.uniform(0.0, 3.0))
            await crowd.cancel(job_id)

    pending = []
    for number in range(arguments.jobs):
        pending.append(asyncio.create_task(one(number)))
        await asyncio.sleep(chance.expovariate(arguments.jobs / seconds))
    await asyncio.gather(*pending)
    crowd.loaded = True
    _, late = await asyncio.wait(life, timeout=arguments.settle_seconds) if life else (set(), set[asyncio.Task[None]]())
    for task in late:
        task.cancel()


async def until_ready(storm: Storm, crowd: Crowd, models: int) -> None:
    """Wait until a gateway knows the models."""
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await crowd.client.get(f"{storm.gateways()[0]}/v1/models")
                if answer.status_code == 200 and len(answer.json()["models"]) >= models:
                    return
            await asyncio.sleep(0.1)


async def run(arguments: argparse.Namespace, folder: Path) -> bool:
    """One storm; True if every line held."""
    async with EmbeddedStack(folder / "servers") as stack:
        storm = Storm(arguments, folder, stack, random.Random(arguments.seed))
        settings = CommonSettings(_env_file=None, **_names(stack.settings_env()))  # type: ignore[arg-type]
        storm.add("projector", "projector", 2)
        storm.add("scheduler", "scheduler", 2)
        storm.add("gateway", "gateway", 2)
        storm.add("fast", "gpu-runner", 3, FORGE_RUNNER_RENDERER="synthetic", FORGE_RUNNER_SLOTS="4")
        storm.add("real", "gpu-runner", arguments.real)
        bus = await bus_module.connect(settings.nats_url, "chaos")
        ledger = Ledger(bus)
        async with httpx.AsyncClient(timeout=10.0, limits=httpx.Limits(max_connections=None)) as client:
            crowd = Crowd(storm.gateways(), random.Random(arguments.seed + 1), client, ledger.note)
            try:
                await until_ready(storm, crowd, 1 + bool(arguments.real))
                tables = ledger.watch_tables(settings.database_url.get_secret_value())
                following = [asyncio.create_task(ledger.run()), asyncio.create_task(tables)]
                for task in following:
                    task.add_done_callback(_said)
                held = await blow(storm, crowd, ledger, settings)
                for task in following:
                    task.cancel()
            finally:
                await asyncio.gather(*(service.stop() for service in storm.services))
        await bus.close()
    return held


def _said(task: "asyncio.Task[None]") -> None:
    """A ledger that broke must not look like a system that did."""
    if not task.cancelled() and task.exception() is not None:
        raise SystemExit(f"the ledger broke: {task.exception()!r}")


async def blow(storm: Storm, crowd: Crowd, ledger: Ledger, settings: CommonSettings) -> bool:
    """Load and kills together, then quiet, then the verdict."""
    arguments = storm.arguments
    began = clock()
    loading = asyncio.create_task(load(crowd, arguments, arguments.seconds))
    kills = await storm.rage(ledger, arguments.seconds)
    print(f"{kills} blows in {clock() - began:.0f} s; waiting for {len(ledger.open_jobs())} open jobs", flush=True)
    await loading
    if not await ledger.until(lambda: not ledger.open_jobs(), arguments.settle_seconds):
        print(f"not over: {sorted(ledger.open_jobs())[:10]}")
    checking = clock()
    lines = await verdict(ledger, crowd, settings, IMAGES, steps_survive="nats" not in arguments.targets)
    for reader in crowd.readers:
        if not reader.ended:
            print(f"reader of {reader.job_id} saw no end: {reader.connections} connections, {reader.events[-3:]}")
    lines.append(Line("projection equals a fresh fold", await verified(storm), "yes"))
    print(f"\nchaos: jobs {arguments.jobs}, kills {kills}, seed {arguments.seed}, {clock() - began:.0f} s")
    held = print_table(lines, clock() - checking)
    print_recoveries(storm.recoveries)
    return held


async def verified(storm: Storm) -> str:
    """What the product itself says when asked to prove its tables."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dreamforge.cli.main",
        "projection",
        "verify",
        env=storm.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return "yes" if process.returncode == 0 else said.decode()[-500:]


def print_recoveries(recoveries: dict[str, list[float]]) -> None:
    """From blow to the next progress, by victim and signal."""
    print("\n    from blow to progress, seconds        n     p50     p99     max")
    for name, seconds in sorted(recoveries.items()):
        values = sorted(seconds)
        p50, p99 = values[len(values) // 2], values[min(len(values) - 1, int(len(values) * 0.99))]
        print(f"    {name:<32} {len(values):>6} {p50:>7.2f} {p99:>7.2f} {values[-1]:>7.2f}")


def _names(environment: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("FORGE_").lower(): value for name, value in environment.items()}


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--targets", type=lambda text: text.split(","), default=list(TARGETS), help=",".join(TARGETS))
    parser.add_argument("--seconds", type=float, help="how long the storm lasts; default 1.5 s a kill")
    parser.add_argument("--real", type=int, default=1, help="runners with the real renderer")
    parser.add_argument("--real-model", default="tiny")
    parser.add_argument("--step-delay-seconds", type=float, default=0.03)
    parser.add_argument(
        "--settle-seconds", type=float, default=120.0, help="for open jobs and readers, after the storm"
    )
    parser.add_argument("--folder", type=Path, help="where data and logs go; default a new temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the folder also when every line held")
    arguments = parser.parse_args(words)
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"unknown targets {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    arguments.seconds = arguments.seconds or max(20.0, 1.5 * arguments.kills)
    return arguments


def main() -> None:
    """Exit 0 only if every line held; the folder with all logs stays otherwise."""
    arguments = parse()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="forge-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    held = asyncio.run(run(arguments, folder))
    if held and not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"logs and data: {folder}")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
