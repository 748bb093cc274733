"""How long until another process takes over: the recovery times, each measured alone.

Usage: python -m bench.recovery [--trials 30] [--open-jobs 100000] [--only runner,scheduler,stack]
"""

import argparse
import asyncio
import signal
import tempfile
from pathlib import Path

from bench.bench_stack import WAIT_SECONDS, BenchStack, submit_until_accepted
from bench.fault_targets import ServiceProcess
from bench.log_observer import LogObserver
from bench.timing import clock, percentile

from dreamforge.contracts.events import JobRequested, JobStarted
from dreamforge.contracts.log.subjects import published_by
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.runtime import clock as wall
from dreamforge.runtime import ids
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.streams import ensure_streams

# What the design promises.
PROMISED_SECONDS = {"runner": 5.0, "scheduler": 2.0, "stack": 10.0}


async def runner_killed(stack: EmbeddedStack, folder: Path, trials: int) -> list[float]:
    """kill -9 of a runner, until its job has started on another one. The killed one is not restarted meanwhile."""
    bench_stack = BenchStack(stack, folder, FORGE_RUNNER_RENDERER="synthetic", FORGE_RUNNER_STEP_DELAY_SECONDS="0.05")
    gateway = bench_stack.add("gateway", "gateway")
    for name, kind in (
        ("scheduler", "scheduler"),
        ("projector", "projector"),
        ("r1", "gpu-runner"),
        ("r2", "gpu-runner"),
    ):
        bench_stack.add(name, kind)
    for name in ("r1", "r2"):
        bench_stack.services[name].restart_seconds = 8.0
    bus = await bus_module.connect(stack.nats.url, "bench")
    await ensure_streams(bus)
    observer = LogObserver(bus)
    following = asyncio.create_task(observer.run())
    seconds: list[float] = []
    for _ in range(trials):
        job_id = await submit_until_accepted(f"http://{gateway.spec.address}")
        await observer.until(lambda job_id=job_id: _has(observer, job_id, "started"), WAIT_SECONDS)  # type: ignore[misc]
        runner_id, attempt = observer.current_attempts[job_id]
        began = clock()
        await bench_stack.services[runner_id].inject(signal.SIGKILL, 0)
        await observer.until(
            lambda job_id=job_id, n=attempt: observer.runs_again(job_id, n),  # type: ignore[misc]
            WAIT_SECONDS,
        )
        seconds.append(clock() - began)
        await observer.until(lambda job_id=job_id: bool(observer.terminal(job_id)), WAIT_SECONDS)  # type: ignore[misc]
    following.cancel()
    await bench_stack.stop()
    await bus.close()
    return seconds


async def scheduler_killed(stack: EmbeddedStack, folder: Path, trials: int) -> list[float]:
    """kill -9 of the leading scheduler, until the other one has assigned a job that came right after."""
    bench_stack = BenchStack(stack, folder, FORGE_RUNNER_RENDERER="synthetic")
    gateway = bench_stack.add("gateway", "gateway")
    for name in ("s1", "s2"):
        bench_stack.add(name, "scheduler").restart_seconds = 3.0
    bench_stack.add("projector", "projector")
    bench_stack.add("r1", "gpu-runner", FORGE_RUNNER_SLOTS="8")
    bus = await bus_module.connect(stack.nats.url, "bench")
    await ensure_streams(bus)
    observer = LogObserver(bus)
    following = asyncio.create_task(observer.run())
    url = f"http://{gateway.spec.address}"
    seconds: list[float] = []
    for _ in range(trials):
        first = await submit_until_accepted(url, steps=1)
        await observer.until(lambda job=first: bool(observer.terminal(job)), WAIT_SECONDS)  # type: ignore[misc]
        leader = await leading(bench_stack)
        began = clock()
        await leader.inject(signal.SIGKILL, 0)
        job_id = await submit_until_accepted(url, steps=1)
        await observer.until(lambda job=job_id: _has(observer, job, "assigned"), WAIT_SECONDS)  # type: ignore[misc]
        seconds.append(clock() - began)
        await asyncio.sleep(4.0)  # the killed one is restarted and is the standby
    following.cancel()
    await bench_stack.stop()
    await bus.close()
    return seconds


async def leading(bench_stack: BenchStack) -> ServiceProcess:
    """The scheduler whose metrics say that it leads."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            for name in ("s1", "s2"):
                if "forge_scheduler_active 1.0" in await _metrics(bench_stack.services[name].spec.address):
                    return bench_stack.services[name]
            await asyncio.sleep(0.05)


async def _metrics(address: str) -> str:
    host, port = address.split(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
    except OSError:
        return ""
    return text


async def stack_killed(stack: EmbeddedStack, folder: Path, open_jobs: int) -> list[float]:
    """kill -9 of everything with so many open jobs in the log, until a new job was accepted and another one started."""
    bus = await bus_module.connect(stack.nats.url, "fill")
    await ensure_streams(bus)
    await fill(EventStore(bus, "/dreamforge/bench"), open_jobs)
    await bus.close()
    for server in stack.servers:
        await server.kill()
    began = clock()
    await asyncio.gather(*(server.restart() for server in stack.servers))
    servers = clock() - began
    bench_stack = BenchStack(stack, folder, FORGE_RUNNER_RENDERER="synthetic", FORGE_LIMIT_OPEN_JOBS=str(2 * open_jobs))
    gateway = bench_stack.add("gateway", "gateway")
    for name, kind in (("scheduler", "scheduler"), ("projector", "projector"), ("r1", "gpu-runner")):
        bench_stack.add(name, kind)
    bus = await bus_module.connect(stack.nats.url, "bench")
    started = asyncio.create_task(_first_start(bus))
    await submit_until_accepted(f"http://{gateway.spec.address}", steps=1)
    taken = clock() - began
    await started
    whole = clock() - began
    print(f"    servers answer after {servers:.1f} s, a new job is accepted after {taken:.1f} s")
    await bench_stack.stop()
    await bus.close()
    return [whole]


async def _first_start(bus: bus_module.Bus) -> None:
    from dreamforge.runtime.log.follow import Follower

    async for batch in Follower(bus, "JOBS", (published_by(JobStarted, "*"),)).batches():
        if batch.messages:
            return


async def fill(store: EventStore, open_jobs: int) -> None:
    """Requests that wait for a runner, appended 500 at a time."""
    request = RenderRequest(
        model_id="synthetic",
        preset="standard",
        prompt="p",
        width_px=64,
        height_px=64,
        steps=1,
        guidance_scale=1,
        seed=1,
    )
    for start in range(0, open_jobs, 2_000):
        event = JobRequested(at=wall.now(), tenant="t", request=request)
        await asyncio.gather(
            *(store.append(ids.new_id(), [event], expected=0) for _ in range(min(2_000, open_jobs - start)))
        )


def _has(observer: LogObserver, job_id: str, token: str) -> bool:
    return any(token == event.TOKEN for _, event in observer.facts.get(job_id, []))


def report(name: str, what: str, seconds: list[float]) -> bool:
    """One row; True if the promise is kept."""
    p99 = percentile(seconds, 0.99)
    kept = p99 <= PROMISED_SECONDS[name]
    print(
        f"{'ok' if kept else 'NO'}  {what:<58} n {len(seconds):>3}  p50 {percentile(seconds, 0.5):5.2f} s"
        f"  p99 {p99:5.2f} s  (promised {PROMISED_SECONDS[name]:g} s)",
        flush=True,
    )
    return kept


async def main(arguments: argparse.Namespace) -> None:
    """Each measurement on servers of its own."""
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            async with EmbeddedStack(folder / "servers") as stack:
                if name == "runner":
                    found = await runner_killed(stack, folder, arguments.trials)
                    report(name, "runner killed -9 to its job running elsewhere", found)
                elif name == "scheduler":
                    found = await scheduler_killed(stack, folder, arguments.trials)
                    report(name, "leading scheduler killed -9 to an assignment by the other", found)
                else:
                    found = await stack_killed(stack, folder, arguments.open_jobs)
                    report(name, f"everything killed -9 with {arguments.open_jobs} open jobs to serving", found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--open-jobs", type=int, default=100_000)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PROMISED_SECONDS))
    asyncio.run(main(parser.parse_args()))
