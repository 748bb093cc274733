"""What the system adds to a render: the same images by a bare diffusers script and through the whole of it.

Both render with the shipped model, same settings and threads, in turns, so that neither sees another machine. The
system's time is a client's: from before the POST until `JobSucceeded` is in the log, images stored. Then the waits
of a user: a runner's cold start, its restart, a switch of models, a cancel.

Usage: python -m bench.runner [--rounds 10] [--images 8]
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.bench_stack import BenchStack, submit_until_accepted
from bench.fault_targets import ServiceProcess
from bench.http_connection import HttpConnection
from bench.log_observer import LogObserver
from bench.plain_diffusers import GUIDANCE, PROMPT, SIDE_PX, STEPS
from bench.timing import clock, percentile

from dreamforge.contracts.events import JobCancelled, JobStarted
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.streams import ensure_streams

MODELS = Path("models")
MODEL_ID = "forge-shapes"
WAIT_SECONDS = 120.0
RATIO_TARGET = 1.05
# What a thread pool of torch would do to the other side's core.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


class PlainDiffusers:
    """The script that is compared with the system."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, model: Path) -> "PlainDiffusers":
        """Started and loaded: imports and loading are not compared."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.plain_diffusers",
            str(model),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **ENVIRONMENT},
        )
        plain = cls(process)
        assert await plain._line() == "ready"
        return plain

    async def render(self, first_seed: int, images: int) -> float:
        """Seconds for so many images."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{first_seed} {images}\n".encode())
        return float(await self._line())

    async def stop(self) -> None:
        """End it."""
        self._process.kill()
        await self._process.wait()

    async def _line(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()


class System:
    """The whole of Dream Forge on one machine, with one runner, and its log."""

    def __init__(self, bench_stack: BenchStack, observer: LogObserver) -> None:
        self.bench_stack, self.observer = bench_stack, observer
        self.url = f"http://{bench_stack.services['gateway'].spec.address}"

    @property
    def runner(self) -> ServiceProcess:
        """The only one."""
        return self.bench_stack.services["r1"]

    async def ask(self, **more: object) -> str:
        """A job's id, once it is accepted."""
        return await submit_until_accepted(self.url, **more)

    async def ended(self, job_id: str) -> None:
        """Once its terminal event was seen. Errors: TimeoutError."""
        if not await self.observer.until(lambda: bool(self.observer.terminal(job_id)), WAIT_SECONDS):
            raise TimeoutError(job_id)

    async def render(self, first_seed: int, images: int) -> float:
        """Seconds for so many images in one job, from before the POST to the success."""
        connection = await HttpConnection.open(self.url)
        body = {
            "model_id": MODEL_ID,
            "prompt": PROMPT,
            "width_px": SIDE_PX,
            "height_px": SIDE_PX,
            "steps": STEPS,
            "guidance_scale": GUIDANCE,
            "seed": first_seed,
            "images": images,
            "determinism": "strict",  # image by image, as the script does; what batches save is in `bench.batching`
        }
        began = clock()
        answer = await connection.post("/v1/jobs", body)
        await self.ended(str(answer.body["job_id"]))
        seconds = clock() - began
        await connection.close()
        return seconds


async def ratio(system: System, plain: PlainDiffusers, rounds: int, images: int) -> bool:
    """Both in turns, each first as often as second. True if the target is reached."""
    await plain.render(0, 1)
    await system.render(0, 1)
    ratios, theirs, ours = [], [], []
    for number in range(rounds):
        seed = 1_000 * (number + 1)
        if number % 2:
            own, other = await system.render(seed, images), await plain.render(seed, images)
        else:
            other, own = await plain.render(seed, images), await system.render(seed, images)
        ratios.append(own / other)
        theirs.append(other)
        ours.append(own)
    found = median(ratios)
    print(f"{images} images, {rounds} rounds    plain {median(theirs):6.3f} s   system {median(ours):6.3f} s")
    print(
        f"{'ok' if found <= RATIO_TARGET else 'NO'}  ratio {found:.3f} (median; {min(ratios):.3f} to {max(ratios):.3f};"
        f" target {RATIO_TARGET})",
        flush=True,
    )
    return found <= RATIO_TARGET


async def start_up(system: System, how: signal.Signals) -> tuple[float, float]:
    """The runner restarted: seconds to its first heartbeat, and to the image of a job submitted meanwhile."""
    runner = system.runner
    runner.restart_seconds = 0.0
    assert runner.process is not None
    ended = asyncio.create_task(runner.process.wait())
    await runner.inject(how, 0)
    await ended
    began = clock()
    subscription = await system.observer.bus.nc.subscribe("$KV.runners.r1")  # only the new process publishes now
    await subscription.next_msg(timeout=WAIT_SECONDS)
    first_heartbeat = clock() - began
    await system.ended(await system.ask(model_id=MODEL_ID, prompt=PROMPT, steps=4))
    first_image = clock() - began
    await subscription.unsubscribe()
    return first_heartbeat, first_image


async def switching(system: System, trials: int) -> tuple[float, float]:
    """Seconds of a small job whose model is loaded, and of one whose model has to be loaded first (medians)."""
    warm: list[float] = []
    cold: list[float] = []
    for number in range(trials):
        for model_id in ("tiny", MODEL_ID):
            for seconds in (cold, warm):
                began = clock()
                await system.ended(await system.ask(model_id=model_id, prompt="x", steps=2, seed=number))
                seconds.append(clock() - began)
    return median(warm), median(cold)


async def cancelling(system: System, trials: int) -> list[float]:
    """From the request to JobCancelled in the log, which the runner appends once the child is idle again."""
    found = []
    for _ in range(trials):
        job_id = await system.ask(model_id=MODEL_ID, prompt=PROMPT, steps=150, images=16)
        await system.observer.until(lambda job_id=job_id: _has_event(system, job_id, JobStarted), WAIT_SECONDS)  # type: ignore[misc]
        await system.observer.until(lambda job_id=job_id: len(system.observer.steps[job_id]) > 2, WAIT_SECONDS)  # type: ignore[misc]
        began = clock()
        connection = await HttpConnection.open(system.url)
        await connection.post(f"/v1/jobs/{job_id}/cancel", {})
        await system.observer.until(lambda job_id=job_id: _has_event(system, job_id, JobCancelled), WAIT_SECONDS)  # type: ignore[misc]
        found.append(clock() - began)
        await connection.close()
    return found


def _has_event(system: System, job_id: str, kind: type) -> bool:
    return any(isinstance(event, kind) for _, event in system.observer.facts.get(job_id, []))


def models_in(folder: Path) -> Path:
    """A models folder with the shipped model and the tiny one."""
    shutil.copytree(MODELS / MODEL_ID, folder / MODEL_ID)
    return folder


async def main(arguments: argparse.Namespace) -> int:
    """Everything in one run; 1 if the ratio is above the aim."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        models = models_in(folder / "models")
        tiny = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dreamforge.gpu_runner.rendering",
            "tiny_model",
            str(models),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await tiny.wait()
        async with EmbeddedStack(folder / "servers") as stack:
            bench_stack = BenchStack(stack, folder, FORGE_RUNNER_MODELS_DIR=str(models), **ENVIRONMENT)
            for name, kind in (("gateway", "gateway"), ("scheduler", "scheduler"), ("projector", "projector")):
                bench_stack.add(name, kind)
            bench_stack.add("r1", "gpu-runner", FORGE_RUNNER_THREADS="1", **json.loads(arguments.runner))
            bus = await bus_module.connect(stack.nats.url, "bench")
            await ensure_streams(bus)
            observer = LogObserver(bus)
            following = asyncio.create_task(observer.run())
            system, plain = System(bench_stack, observer), await PlainDiffusers.start(models / MODEL_ID)
            try:
                reached = await ratio(system, plain, arguments.rounds, arguments.images)
                await plain.stop()
                await report(system, arguments.trials)
            finally:
                following.cancel()
                await bench_stack.stop()
                await bus.close()
    return 0 if reached else 1


async def report(system: System, trials: int) -> None:
    """The waits of a user, each a row."""
    for name, how in (("runner stopped in order and started", signal.SIGTERM), ("killed and started", signal.SIGKILL)):
        found = [await start_up(system, how) for _ in range(trials)]
        heartbeats, images = zip(*found, strict=True)
        print(
            f"{name:<40} first heartbeat {median(heartbeats):5.2f} s   first image {median(images):5.2f} s", flush=True
        )
    warm, cold = await switching(system, trials)
    print(f"{'a small job, model loaded / not loaded':<40} {warm:5.2f} s / {cold:5.2f} s")
    cancels = await cancelling(system, trials)
    print(f"{'cancel to idle':<40} p50 {median(cancels):5.3f} s   max {percentile(cancels, 1.0):5.3f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument(
        "--runner",
        default='{"FORGE_RUNNER_RESIDENT_MODELS": "1", "FORGE_RUNNER_RESIDENT_BYTES": "1"}',
        help="settings of the runner, as JSON; room for one model, so that a switch has to load",
    )
    sys.exit(asyncio.run(main(parser.parse_args())))
