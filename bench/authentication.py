"""What API keys cost the gateway: 1,000 keys beside no keys, in turns in one run.

Two gateways on the same servers, one with FORGE_GATEWAY_AUTH=none and one with keys, get the same mixed requests (jobs,
lists, reads of one job): as many as they can answer, and at a steady rate.

Usage: python -m bench.authentication [--rounds 4] [--seconds 4] [--rate 200] [--keys 1000]
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

from bench.bench_stack import BenchStack, submit_until_accepted
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
BODY = {"model_id": "synthetic", "prompt": "p", "steps": 1, "seed": 1}
OPEN_JOBS = str(10_000_000)
READY_SECONDS = 30.0


async def make_keys(nats_url: str, number: int) -> list[str]:
    """Keys of as many tenants."""
    bus = await bus_module.connect(nats_url, "bench")
    store, made = EventStore(bus, "/dreamforge/bench"), []

    async def one(name: str) -> None:
        key_id, secret = ids.new_key_id(), ids.new_key_secret()
        scopes = frozenset((Scope.READ, Scope.SUBMIT))
        await store.handle(KEY, key_id, CreateKey(times.now(), secret, name, name, scopes))
        made.append(written_key(key_id, secret))

    for start in range(0, number, KEYS_AT_ONCE):
        await asyncio.gather(*(one(f"t{start + each}") for each in range(min(KEYS_AT_ONCE, number - start))))
    await store.close()
    await bus.close()
    return made


class Load:
    """Mixed requests to one gateway, each with the next key."""

    def __init__(self, url: str, keys: list[str]) -> None:
        self.url = url
        self.seconds: list[float] = []
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


async def measure(without: Load, with_keys: Load, arguments: argparse.Namespace) -> None:
    """In turns, so that what else the machine does meets both."""
    loads = {"none": without, "keys": with_keys}
    rates: dict[str, list[float]] = {name: [] for name in loads}
    for load in loads.values():
        await load.full_speed(1.0)  # warm
    for number in range(arguments.rounds):
        for name in sorted(loads, reverse=number % 2 == 1):
            rates[name].append(await loads[name].full_speed(arguments.seconds))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, found in rates.items():
        print(f"full speed, auth={name}: {medians[name]:6.0f} requests/s  ({', '.join(f'{r:.0f}' for r in found)})")
    print(f"full speed, keys cost {100 * (1 - medians['keys'] / medians['none']):.1f} % of the throughput")
    for name, load in loads.items():
        answered, p99 = await load.at_rate(arguments.rate, arguments.seconds)
        print(f"at {arguments.rate:g}/s, auth={name}: {answered:6.1f} answered/s, p99 {p99 * 1e3:.1f} ms")


async def main(arguments: argparse.Namespace) -> None:
    """Start servers and two gateways, measure, stop them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with EmbeddedStack(folder / "servers") as stack:
            system = BenchStack(stack, folder, FORGE_RUNNER_RENDERER="synthetic", FORGE_LIMIT_OPEN_JOBS=OPEN_JOBS)
            try:
                for kind in ("scheduler", "projector", "gpu-runner"):
                    system.add(kind, kind)
                urls = {}
                for auth in ("none", "keys"):
                    service = system.add(f"gateway-{auth}", "gateway", FORGE_GATEWAY_AUTH=auth)
                    urls[auth] = f"http://{service.spec.address}"
                await submit_until_accepted(urls["none"], steps=1)
                keys = await make_keys(stack.nats.url, arguments.keys)
                await until_known(urls["keys"], keys[-1])
                print(f"{len(keys)} keys of as many tenants, {CONNECTIONS} connections, one request in four a job")
                await measure(Load(urls["none"], []), Load(urls["keys"], keys), arguments)
            finally:
                await system.stop()


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--keys", type=int, default=1_000)
    return parser.parse_args(words)


if __name__ == "__main__":
    asyncio.run(main(parse()))
