"""What bounds the rate at which jobs are accepted: the web server, the log, the gateway, and what works beside it.

Usage: python -m bench.accepting [--jobs 2000] [--rounds 3] [--only NAME ...] [--json FILE]

Each round does all of these on fresh servers, with 32 connections that each wait for their answer:
`bare` reads a body and answers 202 under the gateway's web server and its settings; `appending` also appends the event
of a job, already resolved; `gateway` is the real one while scheduler, runner and projector are stopped; `whole` is the
same with them; `batches` are jobs of `POST /v1/batches`, while the others are stopped. Of each: jobs accepted a second,
and the processor time a job of that server process, of nats-server and of this client, which is on the same cores.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median

import psutil
import uvloop
from bench.bench_stack import BenchStack, submit_until_accepted
from bench.eventstore import REQUEST
from bench.http_connection import HttpConnection
from bench.pipeline import CONNECTIONS, JobTimes, at_full_speed
from bench.processor_time import UNIT
from bench.results import Metric, add_json_option, joined, write
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dreamforge.contracts.events import JobRequested
from dreamforge.gateway.http.server import Server, listen
from dreamforge.gateway.http.server_protocol import ConnectionLimits
from dreamforge.runtime import clock, ids
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.service.gc_tuning import SERVICE_ALLOCATIONS, gc_of_a_service
from dreamforge.runtime.service.telemetry import configure_logging

WARM_UP_JOBS = 200
BATCH_JOBS = 100
BESIDE = {"scheduler": "scheduler", "runner": "gpu-runner", "projector": "projector"}
WAYS = ("bare", "appending", "gateway", "batches", "whole")
ENVIRONMENT = {"FORGE_RUNNER_RENDERER": "synthetic", "FORGE_RUNNER_SLOTS": "64"}
LIMITS = ConnectionLimits(head_seconds=10.0, body_seconds=10.0, head_bytes=64 * 1024, connections=1024)
Load = Callable[[str, int], Awaitable[float]]


def answering(store: EventStore | None) -> ASGIApp:
    """Reads the body and answers 202; with a store, once the event of a job is durable."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        job_id = ids.new_id()
        if store is not None:
            event = JobRequested(at=clock.now(), tenant="default", request=REQUEST)
            await store.append(job_id, [event], expected=0)
        await Response(f'{{"job_id":"{job_id}"}}', 202, media_type="application/json")(scope, receive, send)

    return app


async def serve(nats_url: str) -> None:
    """One of the two small servers; it prints its port, and runs until it is killed."""
    store = EventStore(await bus_module.connect(nats_url, "bench"), "/dreamforge/bench") if nats_url else None
    listener = listen("127.0.0.1", 0)
    server = Server(answering(store), limits=LIMITS, drain_seconds=1.0, keep_alive_seconds=60)
    print(listener.getsockname()[1], flush=True)
    await server.serve(sockets=[listener])


@asynccontextmanager
async def small_server(nats_url: str) -> AsyncIterator[tuple[str, int]]:
    """Its address and process."""
    command = [sys.executable, "-m", "bench.accepting", "--serve", nats_url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}", process.pid
    finally:
        process.kill()
        await process.wait()


async def singly(url: str, jobs: int) -> float:
    """Jobs accepted a second, one a request."""
    began, ended = await at_full_speed(url, jobs, distinct=False)
    return jobs / (ended - began)


async def in_batches(url: str, jobs: int) -> float:
    """Jobs accepted a second, BATCH_JOBS a request."""
    body = {"request": {"model_id": "synthetic", "prompt": "a red circle"}, "grid": {"seed": list(range(BATCH_JOBS))}}
    left = iter(range(jobs // BATCH_JOBS))

    async def worker() -> None:
        connection = await HttpConnection.open(url)
        for _ in left:
            answer = await connection.post("/v1/batches", body)
            assert answer.status == 202, answer
        await connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(min(CONNECTIONS, jobs // BATCH_JOBS))))
    return jobs // BATCH_JOBS * BATCH_JOBS / (time.perf_counter() - began)


def _seconds(processes: Mapping[str, int]) -> dict[str, float]:
    times = {name: psutil.Process(pid).cpu_times() for name, pid in processes.items()}
    return {name: each.user + each.system for name, each in times.items()}


async def measured(name: str, load: Load, url: str, jobs: int, processes: Mapping[str, int]) -> list[Metric]:
    """The rate of one kind of load, and the processor time a job of these processes meanwhile."""
    before = _seconds(processes)
    rate = await load(url, jobs)
    spent = {process: seconds - before[process] for process, seconds in _seconds(processes).items()}
    return [
        Metric.rate(f"{name}_accepted", rate, "jobs/s"),
        *(Metric(f"{name}_{process}", 1e6 * each / jobs, UNIT, "lower") for process, each in spent.items()),
    ]


async def one_round(jobs: int, only: list[str], folder: Path) -> list[Metric]:
    """Every way once, on servers of their own."""
    found: list[Metric] = []
    async with EmbeddedStack(folder / "servers") as stack:
        nats = {"nats": stack.nats.pid, "client": os.getpid()}
        services = BenchStack(stack, folder, **ENVIRONMENT)
        try:
            gateway = services.add("gateway", "gateway")
            beside = [services.add(name, kind) for name, kind in BESIDE.items()]
            url = f"http://{gateway.spec.address}"
            async with JobTimes.watching(stack.nats.url) as watch:
                await submit_until_accepted(url, steps=1)
                await singly(url, WARM_UP_JOBS)
                await watch.until_ended(WARM_UP_JOBS + 1)
                assert gateway.process is not None
                ours = {"server": gateway.process.pid, **nats}
                if "whole" in only:
                    found += await measured("whole", singly, url, jobs, ours)
                    await watch.until_ended(WARM_UP_JOBS + 1 + jobs)
            await asyncio.gather(*(service.stop() for service in beside))
            if "gateway" in only:
                found += await measured("gateway", singly, url, jobs, ours)
            if "batches" in only:
                found += await measured("batches", in_batches, url, jobs, ours)
        finally:
            await services.stop()
        for name, nats_url in (("bare", ""), ("appending", stack.nats.url)):
            if name in only:
                async with small_server(nats_url) as (url, pid):
                    await singly(url, WARM_UP_JOBS)
                    found += await measured(name, singly, url, jobs, {"server": pid, **nats})
    return found


@contextmanager
def readable_folder() -> Iterator[Path]:
    """A temporary one; for root, Postgres runs as another user and must reach its own in it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def main(arguments: argparse.Namespace) -> None:
    """All rounds; a line a way with the medians."""
    rounds = []
    for _ in range(arguments.rounds):
        with readable_folder() as folder:
            rounds.append(await one_round(arguments.jobs, arguments.only, folder))
    found = joined("accepting", rounds)
    medians = {metric.name: median(values) for metric, values in found.metrics}
    print(f"{'':<10} {'jobs/s':>8} {'server':>8} {'nats':>8} {'client':>8}   (processor time: us a job)")
    for way in WAYS:
        if way in arguments.only:
            row = (medians[f"{way}_{column}"] for column in ("accepted", "server", "nats", "client"))
            print(f"{way:<10} " + " ".join(f"{value:>8.0f}" for value in row))
    if arguments.json is not None:
        write(arguments.json, {"accepting": found})


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), metavar="NAME")
    parser.add_argument("--serve", metavar="NATS_URL", help=argparse.SUPPRESS)
    add_json_option(parser)
    return parser.parse_args(words)


def run() -> None:
    """The command, or one of its servers."""
    arguments = parse()
    configure_logging("bench", level="WARNING", as_json=False)
    if arguments.serve is None:
        asyncio.run(main(arguments))
        return
    with gc_of_a_service(SERVICE_ALLOCATIONS), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(arguments.serve))


if __name__ == "__main__":
    run()
