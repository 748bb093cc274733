"""Records the fleet and the queue of a real run for `python -m bench.placement`: bench/recorded_fleet.json.

`python -m bench.record_fleet [FILE]` starts a whole system of separate processes with three runners that really load
and render models of three sizes on the CPU. They differ in pace (a CPU without instructions for bfloat16 takes several
times as long with it), in the models that they have and in how many of these stay loaded. They measure themselves, and
what the scheduler has while a queue waits is captured. It also prints how long those jobs took by the clock, and how
far the scheduler's promises were from that.
"""

import asyncio
import os
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

import httpx
import torch
from bench.bench_stack import BenchStack, submit_until_accepted

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.gpu_runner.rendering.pipeline import Pipeline, pipeline_bytes
from dreamforge.gpu_runner.rendering.tiny_model import build_pipeline, ensure_folder, tiny_descriptor, unet
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log.bus import connect
from dreamforge.runtime.testing.eventually import eventually
from dreamforge.scheduler.replay import capture
from dreamforge.scheduler.settings import SchedulerSettings

PATH = Path(__file__).parent / "recorded_fleet.json"
#: Channels of the first level of each model's network: what a step costs, and what its weights take.
WIDTHS = {"small": 32, "medium": 64, "large": 128}
SMALL_AND_MEDIUM_BYTES, ALL_BYTES = 20 * 10**6, 10**9
START_SECONDS = 600.0
WARM_UP_JOBS, JOBS = 40, 40
SIDES, STEPS, IMAGES = (32, 64), (2, 4, 8), (1, 1, 1, 4)
#: Small models are asked for more often, as in `simulated_work`.
SHARES = {"small": 5, "medium": 4, "large": 2}


@dataclass(frozen=True, slots=True)
class Runner:
    """`resident_bytes`: what its models that stay loaded may take."""

    dtype: str
    models: tuple[str, ...]
    resident_bytes: int


RUNNERS = {
    "fast": Runner("float32", ("small", "medium", "large"), ALL_BYTES),
    "fast-swapping": Runner("float32", ("small", "medium", "large"), SMALL_AND_MEDIUM_BYTES),
    "slow": Runner("bfloat16", ("small", "medium"), ALL_BYTES),
}


async def main(path: Path = PATH) -> None:
    """Start, warm up, submit, capture, wait, print."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with EmbeddedStack(folder / "servers") as stack:
            built = {name: build(folder / "built", name) for name in WIDTHS}
            system = BenchStack(stack, folder, FORGE_RUNNER_DEVICE_SHARES=str(len(RUNNERS)), FORGE_RUNNER_BATCH_MAX="1")
            try:
                gateway, scheduler, _ = (system.add(kind, kind) for kind in ("gateway", "scheduler", "projector"))
                for name, runner in RUNNERS.items():
                    system.add(name, "gpu-runner", **environment(runner, models_dir(folder / name, runner, built)))
                url = f"http://{gateway.spec.address}"
                await started(url)
                await ended(url, [await submitted(url, chance) for _ in range(WARM_UP_JOBS)])
                waiting = [await submitted(url, chance) for _ in range(JOBS)]
                found = await recorded(stack.nats.url)
                await asyncio.to_thread(path.write_text, found)
                print_results(await ended(url, waiting), f"http://{scheduler.spec.address}")
            finally:
                await system.stop()


def build(folder: Path, name: str) -> Path:
    """The folder of one model: the tiny Stable Diffusion with a network of another width, and random weights."""
    width = WIDTHS[name]
    pipeline: Any = build_pipeline()  # Any: what its class can do beside rendering is in no type
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        pipeline.register_modules(unet=unet(block_out_channels=(width, 2 * width)))
    return ensure_folder(folder, name, lambda: pipeline, lambda digest: described(name, digest, pipeline))


def described(name: str, digest: str, pipeline: Pipeline) -> ModelDescriptor:
    """The tiny model's descriptor with the weights of this one."""
    tiny = tiny_descriptor(digest)
    vram = tiny.vram.model_copy(update={"resident_bytes": pipeline_bytes(pipeline)})
    return tiny.model_copy(update={"model_id": name, "title": f"Random weights, {name}", "vram": vram})


def models_dir(folder: Path, runner: Runner, built: dict[str, Path]) -> Path:
    """A runner's own folder of models: links to the files of those that it has."""
    for name in runner.models:
        shutil.copytree(built[name], folder / name, copy_function=os.link)
    return folder


def environment(runner: Runner, models: Path) -> dict[str, str]:
    """Its settings."""
    return {
        "FORGE_RUNNER_MODELS_DIR": str(models),
        "FORGE_RUNNER_DTYPE": runner.dtype,
        "FORGE_RUNNER_RESIDENT_BYTES": str(runner.resident_bytes),
    }


async def started(url: str) -> None:
    """Wait until each runner can render: none is measured while others still start."""
    async with httpx.AsyncClient(base_url=url) as client:
        await eventually(lambda: can_render(client), START_SECONDS)


async def can_render(client: httpx.AsyncClient) -> bool:
    """Whether each runner can; False also while no gateway listens."""
    try:
        runners = (await client.get("/v1/runners")).raise_for_status().json()["runners"]
    except httpx.HTTPError:
        return False
    beats = [runner["heartbeat"] for runner in runners]
    return len(beats) == len(RUNNERS) and not any(beat is None or beat["starting"] for beat in beats)


async def submitted(url: str, chance: random.Random) -> str:
    """A job of a model, a size, a number of steps and of images at random; its id."""
    side = chance.choice(SIDES)
    model_id = chance.choices(tuple(SHARES), tuple(SHARES.values()))[0]
    size = {"model_id": model_id, "width_px": side, "height_px": side}
    return await submit_until_accepted(url, **size, steps=chance.choice(STEPS), images=chance.choice(IMAGES))


async def ended(url: str, job_ids: list[str]) -> list[float]:
    """Wait until every job has succeeded; the seconds each took since it was requested."""
    found = []
    async with httpx.AsyncClient(base_url=url) as client:
        for job_id in job_ids:
            while (job := (await client.get(f"/v1/jobs/{job_id}")).json()).get("status") != "succeeded":
                assert job.get("status") != "failed", job
                await asyncio.sleep(0.2)
            end, start = (datetime.fromisoformat(job[name]) for name in ("finished_at", "requested_at"))
            found.append((end - start).total_seconds())
    return found


async def recorded(nats_url: str) -> str:
    """What a plan made now would depend on."""
    settings = SchedulerSettings.model_validate({"nats_url": nats_url})
    bus = await connect(nats_url, "record-fleet")
    try:
        return (await capture(bus, settings)).model_dump_json() + "\n"
    finally:
        await bus.close()


def print_results(seconds: list[float], scheduler_url: str) -> None:
    """How long the jobs took, and what the scheduler's metrics say of its promises."""
    print(f"{len(seconds)} jobs: mean {mean(seconds):.1f} s, p95 {quantiles(seconds, n=20)[-1]:.1f} s")
    for line in httpx.get(f"{scheduler_url}/metrics").text.splitlines():
        if line.startswith(("forge_scheduler_promise_error", "forge_scheduler_promise_ratio_bucket")):
            print(line)


if __name__ == "__main__":
    asyncio.run(main(*map(Path, sys.argv[1:])))
