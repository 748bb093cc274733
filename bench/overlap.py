"""How busy the device of a runner is, and how many images a second come of it, through the whole system.

Forge Shapes on one CPU thread: 32 jobs of one image, then 4 jobs of 8. Each image alone (`determinism: strict`), so
that what is between two renders shows. Busy is the share of the time, from first POST to last `JobSucceeded`, in
which the child renders, by its own account. With `--baseline` another checkout of this project runs beside it, and the
two take turns.

Usage: python -m bench.overlap [--rounds 5] [--steps 20] [--baseline CHECKOUT]
"""

import argparse
import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
from bench.batching import submit
from bench.bench_stack import BenchStack
from bench.http_connection import HttpConnection
from bench.log_observer import LogObserver
from bench.plain_diffusers import PROMPT
from bench.runner import ENVIRONMENT, MODEL_ID, System, models_in
from bench.timing import clock

from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.streams import ensure_streams

#: Jobs and images a job.
LOADS = ((32, 1), (4, 8))
SUM = "forge_runner_render_seconds_sum "


@dataclass
class Contender:
    """A system that is measured, and what was: (busy share, images a second) of each round, by load."""

    name: str
    system: System
    found: dict[tuple[int, int], list[tuple[float, float]]] = field(default_factory=dict)

    async def measure(self, load: tuple[int, int], seed: int, steps: int) -> None:
        """One round of a load."""
        jobs, images = load
        connection = await HttpConnection.open(self.system.url)
        rendered, began = await self._rendered_seconds(), clock()
        names = [
            await submit(connection, "strict", seed + number * images, images, PROMPT, steps) for number in range(jobs)
        ]
        for job_id in names:
            await self.system.ended(job_id)
        seconds = clock() - began
        busy = (await self._rendered_seconds() - rendered) / seconds
        self.found.setdefault(load, []).append((busy, jobs * images / seconds))
        await connection.close()

    async def _rendered_seconds(self) -> float:
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://{self.system.runner.spec.address}/metrics")).text
        return sum(float(line.removeprefix(SUM)) for line in text.splitlines() if line.startswith(SUM))


async def started(exits: AsyncExitStack, folder: Path, models: Path, **environment: str) -> System:
    """A whole system, stopped with `exits`, that has rendered once."""
    await asyncio.to_thread(folder.mkdir)
    stack = await exits.enter_async_context(EmbeddedStack(folder / "servers"))
    bench_stack = BenchStack(stack, folder, FORGE_RUNNER_MODELS_DIR=str(models), **ENVIRONMENT, **environment)
    for name, kind in (("gateway", "gateway"), ("scheduler", "scheduler"), ("projector", "projector")):
        bench_stack.add(name, kind)
    bench_stack.add("r1", "gpu-runner", FORGE_RUNNER_THREADS="1", FORGE_RUNNER_RESIDENT_MODELS="1")
    exits.push_async_callback(bench_stack.stop)
    bus = await bus_module.connect(stack.nats.url, "bench")
    exits.push_async_callback(bus.close)
    await ensure_streams(bus)
    observer = LogObserver(bus)
    exits.callback(asyncio.create_task(observer.run()).cancel)
    system = System(bench_stack, observer)
    await system.ended(await system.ask(model_id=MODEL_ID, prompt=PROMPT, steps=4))
    return system


def source_paths(checkout: Path) -> str:
    """What Python has to look at first to run another checkout."""
    return ":".join(str(folder) for folder in sorted(checkout.absolute().glob("*/src")))


async def main(arguments: argparse.Namespace) -> int:
    """Everything in one run."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        models = models_in(folder / "models")
        async with AsyncExitStack() as exits:
            contenders = [Contender("here", await started(exits, folder / "here", models))]
            if arguments.baseline:
                other = source_paths(arguments.baseline)
                contenders.append(
                    Contender("baseline", await started(exits, folder / "other", models, PYTHONPATH=other))
                )
            for number in range(arguments.rounds):
                for load in LOADS:
                    for contender in contenders[:: -1 if number % 2 else 1]:
                        await contender.measure(load, 1_000 * (number + 1), arguments.steps)
            report(contenders)
    return 0


def report(contenders: list[Contender]) -> None:
    """A row for each load and contender."""
    for jobs, images in LOADS:
        for contender in contenders:
            rounds = contender.found[jobs, images]
            busy, rate = (median(values) for values in zip(*rounds, strict=True))
            print(
                f"{jobs:>3} jobs of {images}   {contender.name:<10} busy {busy:6.1%}   {rate:7.2f} images/s", flush=True
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--baseline", type=Path)
    sys.exit(asyncio.run(main(parser.parse_args())))
