"""What API keys cost the gateway: 1,000 keys beside no keys, in turns in one run.

Two gateways on the same servers, one with FORGE_GATEWAY_AUTH=none and one with keys, get the same mixed requests (jobs,
lists, queue): as many as they can answer, and at a steady rate. The keys are of the tenant that requests without a key
have, so that both read the same lists. The processor time of a gateway for one request says more than its rate where
other programs use the same processors.

Usage: python -m bench.authentication [--rounds 6] [--seconds 3] [--rate 200] [--keys 1000]
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import count, cycle
from pathlib import Path

import psutil
from bench.bench_stack import BenchStack, submit_until_accepted
from bench.fault_targets import ServiceProcess
from bench.http_connection import HttpConnection
from bench.timing import clock, percentile

from dreamforge.contracts.access import CreateKey, Scope, written_key
from dreamforge.runtime import clock as times
from dreamforge.runtime import ids
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.aggregate import KEY
from dreamforge.runtime.log.event_store import EventStore

CONNECTIONS = 16
KEYS_AT_ONCE = 50
TENANT = "default"
BODY = {"model_id": "synthetic", "prompt": "p", "steps": 1, "seed": 1}
OPEN_JOBS = str(10_000_000)
READY_SECONDS = 30.0


async def make_keys(nats_url: str, number: int) -> list[str]:
    """Keys of the tenant that requests without a key have."""
    bus = await bus_module.connect(nats_url, "bench")
    store, made = EventStore(bus, "/dreamforge/bench"), []

    async def one(name: str) -> None:
        key_id, secret = ids.new_key_id(), ids.new_key_secret()
        scopes = frozenset((Scope.READ, Scope.SUBMIT))
        await store.handle(KEY, key_id, CreateKey(times.now(), secret, name, TENANT, scopes))
        made.append(written_key(key_id, secret))

    for start in range(0, number, KEYS_AT_ONCE):
        await asyncio.gather(*(one(f"key {start + each}") for each in range(min(KEYS_AT_ONCE, number - start))))
    await store.close()
    await bus.close()
    return made


class Load:
    """Mixed requests to one gateway, each with the next key."""

    def __init__(self, url: str, keys: list[str]) -> None:
        self.url = url
        self.seconds: list[float] = []
        self.sent = 0
        self._headers: Iterator[dict[str, str]] = cycle([{"Authorization": f"Bearer {key}"} for key in keys] or [{}])
        self._numbers = count()

    async def one(self, connection: HttpConnection) -> None:
        """One request; most read, one in four submits."""
        headers, number, began = next(self._headers), next(self._numbers) % 4, clock()
        if number == 0:
            answer = await connection.post("/v1/jobs", BODY, headers)
        else:
            answer = await connection.get(("/v1/queue", "/v1/jobs?limit=5", "/v1/runners")[number - 1], headers)
        assert answer.status in (200, 202), answer
        self.seconds.append(clock() - began)
        self.sent += 1

    async def full_speed(self, seconds: float) -> float:
        """Requests answered in a second."""
        end, before = clock() + seconds, len(self.seconds)

        async def worker() -> None:
            connection = await HttpConnection.open(self.url)
            while clock() < end:
                await self.one(connection)
            await connection.close()

        began = clock()
        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        return (len(self.seconds) - before) / (clock() - began)

    async def at_rate(self, rate: float, seconds: float) -> tuple[float, float]:
        """Requests answered in a second, and the 99th percentile of their seconds."""
        free: asyncio.Queue[HttpConnection] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            free.put_nowait(await HttpConnection.open(self.url))
        self.seconds.clear()

        async def one() -> None:
            connection = await free.get()
            await self.one(connection)
            free.put_nowait(connection)

        began, tasks = clock(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - clock()))
            tasks.append(asyncio.create_task(one()))
        await asyncio.gather(*tasks)
        answered = len(tasks) / (clock() - began)
        while not free.empty():
            await free.get_nowait().close()
        return answered, percentile(self.seconds, 0.99)


async def until_known(url: str, key: str) -> None:
    """Wait until a gateway takes a key."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            connection = await HttpConnection.open(url)
            answer = await connection.get("/v1/me", {"Authorization": f"Bearer {key}"})
            await connection.close()
            if answer.status == 200:
                return
            await asyncio.sleep(0.1)


@dataclass
class Measured:
    """What the rounds of one gateway gave; CPU milliseconds are those of its process, for one request."""

    full_speed: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    cpu_ms_at_rate: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    async def round(self, load: Load, gateway: ServiceProcess, arguments: argparse.Namespace) -> None:
        """As many as it can answer, then at a steady rate."""
        cpu, before = cpu_seconds(gateway), load.sent
        self.full_speed.append(await load.full_speed(arguments.seconds))
        self.cpu_ms.append(1e3 * (cpu_seconds(gateway) - cpu) / (load.sent - before))
        cpu, before = cpu_seconds(gateway), load.sent
        answered, p99 = await load.at_rate(arguments.rate, arguments.seconds)
        self.cpu_ms_at_rate.append(1e3 * (cpu_seconds(gateway) - cpu) / (load.sent - before))
        self.answered.append(answered)
        self.p99_ms.append(1e3 * p99)


def cpu_seconds(gateway: ServiceProcess) -> float:
    """Processor time of its process so far, children left out."""
    assert gateway.process is not None
    times = psutil.Process(gateway.process.pid).cpu_times()
    return float(times.user + times.system)


async def measure(loads: dict[str, tuple[Load, ServiceProcess]], arguments: argparse.Namespace) -> None:
    """In turns, so that what else the machine does meets both; a pair is one round of each."""
    found = {name: Measured() for name in loads}
    for load, _ in loads.values():
        await load.full_speed(1.0)  # warm
    for number in range(arguments.rounds):
        for name in sorted(loads, reverse=number % 2 == 1):
            await found[name].round(*loads[name], arguments)
    for what in fields(Measured):
        none, keys = (getattr(found[name], what.name) for name in ("none", "keys"))
        more = statistics.median(k / n for n, k in zip(none, keys, strict=True)) - 1
        values = ", ".join(f"{n:.2f}/{k:.2f}" for n, k in zip(none, keys, strict=True))
        medians = f"{statistics.median(none):8.2f} without keys, {statistics.median(keys):8.2f} with"
        print(f"{what.name:15} {medians}: {100 * more:+5.1f} % (median of the pairs {values})")


async def main(arguments: argparse.Namespace) -> None:
    """Start servers and two gateways, measure, stop them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with EmbeddedStack(folder / "servers") as stack:
            system = BenchStack(stack, folder, FORGE_RUNNER_RENDERER="synthetic", FORGE_LIMIT_OPEN_JOBS=OPEN_JOBS)
            try:
                for kind in ("scheduler", "projector", "gpu-runner"):
                    system.add(kind, kind)
                none, asking = (
                    system.add(f"gateway-{auth}", "gateway", FORGE_GATEWAY_AUTH=auth) for auth in ("none", "keys")
                )
                await submit_until_accepted(f"http://{none.spec.address}", steps=1)
                keys = await make_keys(stack.nats.url, arguments.keys)
                await until_known(f"http://{asking.spec.address}", keys[-1])
                print(f"{len(keys)} keys, {CONNECTIONS} connections, one request in four a job")
                without, with_keys = (
                    Load(f"http://{none.spec.address}", []),
                    Load(f"http://{asking.spec.address}", keys),
                )
                await measure({"none": (without, none), "keys": (with_keys, asking)}, arguments)
            finally:
                await system.stop()


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--keys", type=int, default=1_000)
    return parser.parse_args(words)


if __name__ == "__main__":
    asyncio.run(main(parse()))
