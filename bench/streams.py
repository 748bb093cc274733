"""Event streams of one gateway process against a bare ASGI application that sends the same, in the same run.

Clients watch jobs; each job reports steps at a steady rate, and each step goes to every client of its job. The bare
application makes the frames itself and has no log, no jobs and no credentials: it is the ceiling of the server library.
Rounds alternate. Printed: events that arrived in a second, from their time in the event to their arrival the 50th and
99th percentile, and memory of the process for one client.

As many jobs as clients: each client watches its own.

Usage: python -m bench.streams [--clients 2000] [--jobs 100] [--rate 10] [--seconds 5] [--rounds 3]
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psutil
import uvloop
from bench.bench_stack import BenchStack
from bench.http_connection import HttpConnection
from bench.projection import job_events
from bench.timing import clock, percentile

from dreamforge.contracts.events import JobAssigned, StepProgressed
from dreamforge.contracts.log.envelope import seal
from dreamforge.runtime import ids
from dreamforge.runtime.embedded import EmbeddedStack, spawn
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log import bus as nats
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore

AT = b'"at":"'
AT_BYTES = len("2026-11-27T12:00:00.000000Z")
STEPS = 1_000_000
READY_SECONDS = 60.0
OPENED_AT_ONCE = 50
# A measurement is of a steady state: connections are warm, and nothing is still being told of history.
WARM_SECONDS = 1.5


@dataclass
class Received:
    """What all clients have got while it was counted."""

    events: int = 0
    latencies: list[float] = field(default_factory=list)
    counting: bool = False


class StreamClient(asyncio.Protocol):
    """One connection that only counts; `begun` is set by the first bytes of the stream."""

    def __init__(self, target: str, received: Received) -> None:
        self._target, self._received = target, received
        self.begun = asyncio.Event()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self.transport = cast(asyncio.Transport, transport)  # those of uvloop are none by their class
        self.transport.write(f"GET {self._target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        """Count frames; the time in the last one says how late it is."""
        if not self.begun.is_set():
            assert data.startswith(b"HTTP/1.1 200"), data[:300]
            self.begun.set()
        if self._received.counting:
            self._received.events += data.count(b"\n\n")
            place = data.rfind(AT)
            at = data[place + len(AT) : place + len(AT) + AT_BYTES]
            if place >= 0 and len(at) == AT_BYTES and at.endswith(b"Z"):  # no facts: their times are whole seconds
                sent = datetime.fromisoformat(at.decode())
                self._received.latencies.append((datetime.now(UTC) - sent).total_seconds())


@dataclass
class Measured:
    """One round."""

    events_per_second: float
    p50_ms: float
    p99_ms: float
    client_bytes: float


Publish = Callable[[float], Coroutine[Any, Any, None]]


async def round_of(url: str, pid: int, targets: list[str], publish: Publish, arguments: argparse.Namespace) -> Measured:
    """Open the clients, publish, count, close them."""
    received, loop = Received(), asyncio.get_running_loop()
    where = urlsplit(url)
    before = psutil.Process(pid).memory_info().rss
    clients: list[StreamClient] = []
    for first in range(0, len(targets), OPENED_AT_ONCE):
        opened = await asyncio.gather(
            *(
                loop.create_connection(partial(StreamClient, target, received), where.hostname or "", where.port or 80)
                for target in targets[first : first + OPENED_AT_ONCE]
            )
        )
        clients += [client for _, client in opened]
        await asyncio.gather(*(client.begun.wait() for _, client in opened))
    opened_bytes = psutil.Process(pid).memory_info().rss - before
    publishing = asyncio.create_task(publish(WARM_SECONDS + arguments.seconds + 1.0))
    await asyncio.sleep(WARM_SECONDS)
    began, received.counting = clock(), True
    await asyncio.sleep(arguments.seconds)
    received.counting, took = False, clock() - began
    await publishing
    for client in clients:
        assert client.transport is not None
        client.transport.close()
    await asyncio.sleep(0.5)
    late = received.latencies or [float("inf")]
    return Measured(
        received.events / took,
        1e3 * percentile(late, 0.5),
        1e3 * percentile(late, 0.99),
        opened_bytes / len(targets),
    )


def step_of(number: int) -> StepProgressed:
    """A step of a render that goes on and on."""
    return StepProgressed(
        at=datetime.now(UTC), attempt=1, image_index=0, images=1, step=number, steps=STEPS, elapsed_seconds=1.0,
        eta_seconds=1.0, written_by="r1",
    )  # fmt: skip


async def running_jobs(bus: Bus, count: int) -> list[str]:
    """Jobs that a runner renders."""
    store, made = EventStore(bus, "/dreamforge/bench"), []
    for number in range(count):
        job_id = ids.new_id()
        requested, assigned, started, *_ = job_events(number)
        assert isinstance(assigned, JobAssigned)
        await store.append(job_id, [requested, assigned, started], expected=0)
        made.append(job_id)
    await store.close()
    return made


async def publish_steps(bus: Bus, job_ids: list[str], rate: float, seconds: float) -> None:
    """Every job reports `rate` steps a second, evenly spread over time; of a step only the time is made anew."""
    began, sent, gap = clock(), 0, 1.0 / (rate * len(job_ids))
    sealed = [seal(step_of(1), entity_id=job_id, event_id="1", source="/bench") for job_id in job_ids]
    head, tail = sealed[0].data[: len(AT) + 1], sealed[0].data[len(AT) + 1 + AT_BYTES :]  # {"at":"…Z","attempt":…
    while clock() - began < seconds:
        due = int((clock() - began) / gap)
        data = head + datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode() + tail
        for number in range(sent, due):
            each = sealed[number % len(job_ids)]
            await bus.nc.publish(each.subject, data, headers=each.headers)
        sent = max(sent, due)
        await asyncio.sleep(max(0.005, gap))


async def bare_application(port: int, jobs: int, rate: float) -> None:
    """The ceiling: frames made once, given to the clients of each job, written together."""
    import uvicorn

    clients: list[list[tuple[list[bytes], asyncio.Event]]] = [[] for _ in range(jobs)]

    async def application(scope: dict[str, object], receive: object, send: Callable[[object], Awaitable[None]]) -> None:
        assert scope["type"] == "http"
        pending: list[bytes] = []
        mine = (pending, asyncio.Event())
        job = clients[int(str(scope["path"]).rpartition("/")[2])]
        job.append(mine)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": here\n\n", "more_body": True})
        watcher = asyncio.ensure_future(_disconnected(receive))  # type: ignore[arg-type]
        watcher.add_done_callback(lambda _: mine[1].set())
        while True:
            await mine[1].wait()
            mine[1].clear()
            if watcher.done():
                job.remove(mine)
                return
            body = b"".join(pending)
            pending.clear()
            await send({"type": "http.response.body", "body": body, "more_body": True})

    async def produce() -> None:
        began, made, gap = clock(), 0, 1.0 / (rate * jobs)
        ids_of_jobs = [ids.new_id() for _ in range(jobs)]
        while True:
            due = int((clock() - began) / gap)
            for number in range(made, due):
                job = number % jobs
                head = f'id: {number}-{number}-0123abcd\nevent: step\ndata: {{"job_id": "{ids_of_jobs[job]}", '
                told = f'"sequence": {number}, "type": "dreamforge.step.progressed.v1", '
                frame = (head + told + step_of(number).model_dump_json()[1:] + "\n\n").encode()
                for pending, wake in clients[job]:
                    pending.append(frame)
                    wake.set()
            made = max(made, due)
            await asyncio.sleep(max(0.001, gap))

    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="warning", loop="uvloop", backlog=4096))
    producing = asyncio.create_task(produce())
    await server.serve()
    producing.cancel()


async def _disconnected(receive: Callable[[], Awaitable[dict[str, object]]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def bare_server(arguments: argparse.Namespace) -> AsyncIterator[tuple[str, int]]:
    """Its address and process."""
    port = free_port()
    options = (f"--serve-bare={port}", f"--jobs={arguments.jobs}", f"--rate={arguments.rate}")
    process = await spawn((sys.executable, "-m", "bench.streams", *options))
    try:
        await _until_open(port)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        await process.kill()


async def _until_open(port: int) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


async def until_ready(url: str) -> None:
    """Until a gateway serves event streams. Errors: TimeoutError."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            try:
                connection = await HttpConnection.open(url)
                ready = (await connection.get("/readyz")).status == 200
                await connection.close()
                if ready:
                    return
            except (OSError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(0.1)


async def main(arguments: argparse.Namespace) -> None:
    """Start both, alternate, print."""
    found: dict[str, list[Measured]] = {"bare": [], "gateway": []}
    with tempfile.TemporaryDirectory() as name:
        async with EmbeddedStack(Path(name) / "servers") as stack:
            system = BenchStack(stack, Path(name), FORGE_GATEWAY_STREAMS=str(2 * arguments.clients))
            bus = await nats.connect(stack.nats.url, "bench")
            job_ids = await running_jobs(bus, arguments.jobs)
            try:
                system.add("projector", "projector")
                gateway = system.add("gateway", "gateway")
                url = f"http://{gateway.spec.address}"
                await until_ready(url)
                async with bare_server(arguments) as (bare_url, bare_pid):
                    watched = [job_ids[n % arguments.jobs] for n in range(arguments.clients)]
                    bare_targets = [f"/{n % arguments.jobs}" for n in range(arguments.clients)]
                    targets = [f"/v1/jobs/{job_id}/events" for job_id in watched]
                    for _ in range(arguments.rounds):
                        assert gateway.process is not None
                        found["bare"].append(await round_of(bare_url, bare_pid, bare_targets, asyncio.sleep, arguments))
                        found["gateway"].append(
                            await round_of(
                                url,
                                gateway.process.pid,
                                targets,
                                lambda seconds: publish_steps(bus, job_ids, arguments.rate, seconds),
                                arguments,
                            )
                        )
            finally:
                await system.stop()
                await bus.close()
    _print(found, arguments)


def _print(found: dict[str, list[Measured]], arguments: argparse.Namespace) -> None:
    offered = arguments.clients * arguments.rate
    print(f"{arguments.clients} clients, {arguments.jobs} jobs, {offered:g} events/s offered; medians of the rounds")
    for name, rounds in found.items():
        rate, p50, p99 = (
            statistics.median(getattr(each, what) for each in rounds)
            for what in ("events_per_second", "p50_ms", "p99_ms")
        )
        first = rounds[0].client_bytes / 1024
        print(f"{name:8} {rate:9.0f} events/s, p50 {p50:7.1f} ms, p99 {p99:7.1f} ms, {first:5.1f} KiB a client")
    pairs = [g.events_per_second / b.events_per_second for b, g in zip(found["bare"], found["gateway"], strict=True)]
    print(f"ratio    {statistics.median(pairs):.2f} ({', '.join(f'{pair:.2f}' for pair in pairs)})")


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=2_000)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--rate", type=float, default=10.0, help="steps a second of each job")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve-bare", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    given = parse()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    if given.serve_bare:
        asyncio.run(bare_application(given.serve_bare, given.jobs, given.rate))
    else:
        uvloop.run(main(given))  # so that the clients leave the processors to what is measured
