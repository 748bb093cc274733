"""Fault injection under load: kill processes at random, then check that nothing was lost and nothing happened twice.

Real processes on one machine: two gateways, two schedulers, two projectors, several runners (one with the real
renderer), NATS, Postgres and S3. Clients submit with idempotency keys and retry, a tenth of the jobs is cancelled at
random times, SSE readers disconnect and resume. SIGKILL, SIGTERM, and SIGSTOP for longer than a lease, at random.
Prints one table; exits 1 unless every check passed. The same seed makes the same choices, not the same races.

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
from bench.clients import LoadClients
from bench.fault_targets import FaultTarget, RendererProcess, ServerProcess, ServiceProcess
from bench.invariants import CheckResult, check_invariants, print_table
from bench.log_observer import PROJECTED, LogObserver
from bench.timing import clock

from dreamforge.cli.stack.plan import ServiceSpec
from dreamforge.contracts.fleet import LEASE_SECONDS
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.storage.settings import StorageSettings

TARGETS = ("gateway", "scheduler", "runner", "child", "projector", "nats", "postgres", "s3")
# Shares of the signals: mostly the worst one.
SIGNALS = (signal.SIGKILL,) * 6 + (signal.SIGTERM,) * 2 + (signal.SIGSTOP,) * 2
STOPPED_SECONDS = (LEASE_SECONDS + 1.0, LEASE_SECONDS + 4.0)
RECOVERY_SECONDS = 60.0
IMAGES = 2


@dataclass
class ChaosRun:
    """One run: what it started, and how long each target took to recover."""

    arguments: argparse.Namespace
    folder: Path
    stack: EmbeddedStack
    rng: random.Random
    services: list[ServiceProcess] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    injections: "set[asyncio.Task[None]]" = field(default_factory=set)

    def environment(self) -> dict[str, str]:
        """What every service gets."""
        own = {
            "FORGE_STATE_DIR": str(self.folder),
            "FORGE_LOG_JSON": "false",
            "FORGE_RETRY_MAX_ATTEMPTS": "50",  # an injected fault must not use up a job's attempts
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
            service = ServiceProcess(spec, self.environment(), self.folder / f"{spec.name}.log")
            service.start()
            self.services.append(service)

    def gateways(self) -> tuple[str, ...]:
        """Their addresses."""
        return tuple(f"http://{s.spec.address}" for s in self.services if s.kind == "gateway")

    def fault_targets(self) -> dict[str, list[FaultTarget]]:
        """Everything that may receive a fault, by kind of target."""
        found: dict[str, list[FaultTarget]] = defaultdict(list)
        for service in self.services:
            found[service.kind].append(service)
            if service.kind == "runner":
                found["child"].append(RendererProcess(service))
        for server in self.stack.servers:
            found[server.name].append(ServerProcess(server))
        return {target: found[target] for target in self.arguments.targets}

    async def inject_faults(self, observer: LogObserver, seconds: float) -> int:
        """Spread the faults over a time; return how many were injected."""
        fault_targets = self.fault_targets()
        done = 0
        for _ in range(self.arguments.kills):
            await asyncio.sleep(self.rng.expovariate(self.arguments.kills / seconds))
            kind = self.rng.choice(sorted(fault_targets))
            target = self.rng.choice(fault_targets[kind])
            how = self.rng.choice(SIGNALS)
            task = asyncio.create_task(self._inject(target, how, observer))
            self.injections.add(task)
            task.add_done_callback(self.injections.discard)
            done += 1
        await asyncio.gather(*self.injections)
        return done

    async def _inject(self, target: FaultTarget, how: signal.Signals, observer: LogObserver) -> None:
        held = observer.attempts_of(_runner_id(target))
        began = clock()
        injecting = asyncio.create_task(target.inject(how, self.rng.uniform(*STOPPED_SECONDS)))
        name = f"{target.kind} {how.name}"
        if held:
            await asyncio.gather(*(self._runs_again(name, observer, job, n, began) for job, n in held.items()))
        elif token := _progress_of(target):
            await self._progress(name, observer, token, began)
        await injecting

    async def _runs_again(self, name: str, observer: LogObserver, job_id: str, attempt: int, began: float) -> None:
        if await observer.until(lambda: observer.runs_again(job_id, attempt), RECOVERY_SECONDS):
            self.recoveries[name].append(clock() - began)

    async def _progress(self, name: str, observer: LogObserver, token: str, began: float) -> None:
        """The next event of a kind after the fault."""

        def moved() -> bool:
            return observer.latest.get(token, 0.0) > began or not observer.open_jobs()

        if await observer.until(moved, RECOVERY_SECONDS) and observer.latest.get(token, 0.0) > began:
            self.recoveries[name].append(clock() - began)


# What shows that a target of this kind works again: an event, or something noted.
PROGRESS = {
    "scheduler": "assigned",
    "nats": "started",
    "s3": "succeeded",
    "projector": PROJECTED,
    "postgres": PROJECTED,
}


def _progress_of(target: FaultTarget) -> str:
    """The key of `LogObserver.latest` to wait for; a gateway's own address, where jobs are accepted again."""
    if isinstance(target, ServiceProcess) and target.kind == "gateway":
        return f"http://{target.spec.address}"
    return PROGRESS.get(target.kind, "")


def _runner_id(target: FaultTarget) -> str:
    service = target.runner if isinstance(target, RendererProcess) else target
    return service.spec.environment.get("FORGE_RUNNER_ID", "") if isinstance(service, ServiceProcess) else ""


async def load(clients: LoadClients, arguments: argparse.Namespace, seconds: float) -> None:
    """Submit all jobs over a time; cancel a tenth, read a fifth, repeat a twentieth."""
    rng = clients.rng
    readers: list[asyncio.Task[None]] = []

    async def one(number: int) -> None:
        model = "synthetic" if number % 40 or not arguments.real else arguments.real_model
        body: dict[str, object] = {
            "prompt": f"image {number}", "seed": number, "steps": 12, "images": IMAGES, "model_id": model
        }  # fmt: skip
        key = f"chaos-{arguments.seed}-{number}"
        job_id = await clients.submit(key, body)
        if rng.random() < 0.2:
            readers.append(asyncio.create_task(clients.read(job_id)))
        if rng.random() < 0.05:
            await clients.resubmit(key, body)
        if rng.random() < 0.1:
            await asyncio.sleep(rng.uniform(0.0, 3.0))
            await clients.cancel(job_id)

    pending = []
    for number in range(arguments.jobs):
        pending.append(asyncio.create_task(one(number)))
        await asyncio.sleep(rng.expovariate(arguments.jobs / seconds))
    await asyncio.gather(*pending)
    if readers:
        _, late = await asyncio.wait(readers, timeout=arguments.settle_seconds)
        for task in late:
            task.cancel()


async def until_ready(chaos: ChaosRun, clients: LoadClients, models: int) -> None:
    """Wait until a gateway knows the models."""
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await clients.client.get(f"{chaos.gateways()[0]}/v1/models")
                if answer.status_code == 200 and len(answer.json()["models"]) >= models:
                    return
            await asyncio.sleep(0.1)


async def run(arguments: argparse.Namespace, folder: Path) -> bool:
    """One run; True if every check passed."""
    async with EmbeddedStack(folder / "servers") as stack:
        chaos = ChaosRun(arguments, folder, stack, random.Random(arguments.seed))
        settings = StorageSettings(_env_file=None, **_names(stack.settings_env()))  # type: ignore[arg-type]
        chaos.add("projector", "projector", 2)
        chaos.add("scheduler", "scheduler", 2)
        chaos.add("gateway", "gateway", 2)
        chaos.add("fast", "gpu-runner", 3, FORGE_RUNNER_RENDERER="synthetic", FORGE_RUNNER_SLOTS="4")
        chaos.add("real", "gpu-runner", arguments.real)
        bus = await bus_module.connect(settings.nats_url, "chaos")
        observer = LogObserver(bus)
        async with httpx.AsyncClient(timeout=10.0, limits=httpx.Limits(max_connections=None)) as client:
            clients = LoadClients(chaos.gateways(), random.Random(arguments.seed + 1), client, observer.note)
            try:
                await until_ready(chaos, clients, 1 + bool(arguments.real))
                tables = observer.watch_tables(settings.database_url.get_secret_value())
                following = [asyncio.create_task(observer.run()), asyncio.create_task(tables)]
                for task in following:
                    task.add_done_callback(_exit_on_failure)
                passed = await run_load_and_faults(chaos, clients, observer, settings)
                for task in following:
                    task.cancel()
            finally:
                await asyncio.gather(*(service.stop() for service in chaos.services))
        await bus.close()
    return passed


def _exit_on_failure(task: "asyncio.Task[None]") -> None:
    """A failure of the observer must not look like a failure of the system."""
    if not task.cancelled() and task.exception() is not None:
        raise SystemExit(f"the log observer failed: {task.exception()!r}")


async def run_load_and_faults(
    chaos: ChaosRun, clients: LoadClients, observer: LogObserver, settings: StorageSettings
) -> bool:
    """Load and faults together, then wait until the jobs end, then check the invariants."""
    arguments = chaos.arguments
    began = clock()
    loading = asyncio.create_task(load(clients, arguments, arguments.seconds))
    kills = await chaos.inject_faults(observer, arguments.seconds)
    print(f"{kills} faults in {clock() - began:.0f} s; waiting for {len(observer.open_jobs())} open jobs", flush=True)
    await loading
    if not await observer.until(lambda: not observer.open_jobs(), arguments.settle_seconds):
        print(f"not finished: {sorted(observer.open_jobs())[:10]}")
    checking = clock()
    steps_survive = "nats" not in arguments.targets
    lines = await check_invariants(observer, clients.record, settings, IMAGES, steps_survive=steps_survive)
    for reader in clients.record.readers:
        if not reader.ended:
            last = reader.events[-3:]
            print(f"reader of {reader.job_id} saw no terminal event: {reader.connections} connections, {last}")
    lines.append(CheckResult("projection equals a fresh fold", await verified(chaos), "yes"))
    print(f"\nchaos: jobs {arguments.jobs}, kills {kills}, seed {arguments.seed}, {clock() - began:.0f} s")
    passed = print_table(lines, clock() - checking)
    print_recoveries(chaos.recoveries)
    return passed


async def verified(chaos: ChaosRun) -> str:
    """The output of `dreamforge projection verify`, or "yes"."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dreamforge.cli.main",
        "projection",
        "verify",
        env=chaos.environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return "yes" if process.returncode == 0 else output.decode()[-500:]


def print_recoveries(recoveries: dict[str, list[float]]) -> None:
    """Seconds from a fault to the next progress, by target and signal."""
    print("\n    from fault to progress, seconds       n     p50     p99     max")
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
    parser.add_argument("--seconds", type=float, help="how long faults are injected; default 1.5 s a kill")
    parser.add_argument("--real", type=int, default=1, help="runners with the real renderer")
    parser.add_argument("--real-model", default="tiny")
    parser.add_argument("--step-delay-seconds", type=float, default=0.03)
    parser.add_argument(
        "--settle-seconds", type=float, default=120.0, help="for open jobs and readers, after the last fault"
    )
    parser.add_argument("--folder", type=Path, help="where data and logs go; default a new temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the folder also when every check passed")
    arguments = parser.parse_args(words)
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"unknown targets {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    arguments.seconds = arguments.seconds or max(20.0, 1.5 * arguments.kills)
    return arguments


def main() -> None:
    """Exit 0 only if every check passed; otherwise the folder with all logs is kept."""
    arguments = parse()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="forge-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    passed = asyncio.run(run(arguments, folder))
    if passed and not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"logs and data: {folder}")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
