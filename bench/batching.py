"""What rendering together saves: the same images one by one and in batches, through the whole system, in turns.

Forge Shapes on one CPU thread: sixteen images of one job, then sixteen jobs of one image. One by one is what
`determinism: strict` gives. The time is a client's: from before the first POST until the last `JobSucceeded` is in the
log.

Usage: python -m bench.batching [--rounds 5] [--images 16]
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from bench.bench_stack import BenchStack
from bench.http_connection import HttpConnection
from bench.log_observer import LogObserver
from bench.plain_diffusers import GUIDANCE, PROMPT, SIDE_PX, STEPS
from bench.runner import ENVIRONMENT, MODEL_ID, System, models_in
from bench.timing import clock

from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.streams import ensure_streams

JOB_TARGET, JOBS_TARGET = 2.5, 2.0
COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "white", "black")
SHAPES = ("circle", "star")
Measure = Callable[[str, int], Awaitable[float]]


async def submit(
    connection: HttpConnection, determinism: str, seed: int, images: int, prompt: str, steps: int = STEPS
) -> str:
    """A job's id."""
    body = {
        "model_id": MODEL_ID,
        "prompt": prompt,
        "width_px": SIDE_PX,
        "height_px": SIDE_PX,
        "steps": steps,
        "guidance_scale": GUIDANCE,
        "seed": seed,
        "images": images,
        "determinism": determinism,
    }
    answer = await connection.post("/v1/jobs", body)
    return str(answer.body["job_id"])


class Measured:
    """The two ways to ask for so many images."""

    def __init__(self, system: System, images: int) -> None:
        self._system, self._images = system, images

    async def one_job(self, determinism: str, seed: int) -> float:
        """Seconds for all images in one job."""
        connection = await HttpConnection.open(self._system.url)
        began = clock()
        await self._system.ended(await submit(connection, determinism, seed, self._images, PROMPT))
        seconds = clock() - began
        await connection.close()
        return seconds

    async def many_jobs(self, determinism: str, seed: int) -> float:
        """Seconds for as many jobs of one image, each with a prompt of its own."""
        connection = await HttpConnection.open(self._system.url)
        prompts = [
            f"a {COLOURS[number % 8]} {SHAPES[number // 8 % 2]} on a grey background" for number in range(self._images)
        ]
        began = clock()
        jobs = [
            await submit(connection, determinism, seed + number, 1, prompt) for number, prompt in enumerate(prompts)
        ]
        for job_id in jobs:
            await self._system.ended(job_id)
        seconds = clock() - began
        await connection.close()
        return seconds


async def ratio(name: str, measure: Measure, rounds: int, target: float) -> bool:
    """Both ways in turns, each first as often as second. True if the target is reached."""
    ratios, alone, together = [], [], []
    for number in range(rounds):
        ways = ("strict", "batched") if number % 2 else ("batched", "strict")
        took = {way: await measure(way, 1_000 * (number + 1)) for way in ways}
        ratios.append(took["strict"] / took["batched"])
        alone.append(took["strict"])
        together.append(took["batched"])
    found = median(ratios)
    print(f"{name:<24} one by one {median(alone):6.3f} s   together {median(together):6.3f} s")
    print(
        f"{'ok' if found >= target else 'NO'}  {found:.2f} times sooner (median of {rounds}; {min(ratios):.2f} to"
        f" {max(ratios):.2f}; target {target})",
        flush=True,
    )
    return found >= target


async def learn(system: System, measured: Measured) -> None:
    """As many jobs as it takes until the runner has tried every size; the first of them are slower."""
    first = await measured.one_job("batched", 1)
    for number in range(3):
        last = await measured.one_job("batched", 100 * (number + 2))
    connection = await HttpConnection.open(system.url)
    runners = (await connection.get("/v1/runners")).body
    await connection.close()
    (runner,) = runners["runners"]
    print(f"learnt: first job {first:.3f} s, fourth {last:.3f} s; {runner['heartbeat']['batch_bounds']}", flush=True)


async def main(arguments: argparse.Namespace) -> int:
    """Everything in one run; 1 if a ratio is below its target."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        models = models_in(folder / "models")
        async with EmbeddedStack(folder / "servers") as stack:
            bench_stack = BenchStack(stack, folder, FORGE_RUNNER_MODELS_DIR=str(models), **ENVIRONMENT)
            for name, kind in (("gateway", "gateway"), ("scheduler", "scheduler"), ("projector", "projector")):
                bench_stack.add(name, kind)
            bench_stack.add("r1", "gpu-runner", FORGE_RUNNER_THREADS="1")
            bus = await bus_module.connect(stack.nats.url, "bench")
            await ensure_streams(bus)
            observer = LogObserver(bus)
            following = asyncio.create_task(observer.run())
            system = System(bench_stack, observer)
            measured = Measured(system, arguments.images)
            try:
                await system.ended(await system.ask(model_id=MODEL_ID, prompt=PROMPT, steps=4))  # until all is up
                await learn(system, measured)
                count = arguments.images
                reached = [
                    await ratio(f"{count} images of a job", measured.one_job, arguments.rounds, JOB_TARGET),
                    await ratio(f"{count} jobs of one image", measured.many_jobs, arguments.rounds, JOBS_TARGET),
                ]
            finally:
                following.cancel()
                await bench_stack.stop()
                await bus.close()
    return 0 if all(reached) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=16)
    sys.exit(asyncio.run(main(parser.parse_args())))
