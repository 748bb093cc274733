"""Records the fleet and the queue of a real run for `python -m bench.placement`: bench/recorded_fleet.json.

`python -m bench.record_fleet` starts a whole system of separate processes with one fast and two slow synthetic runners,
has them measure themselves, and captures what the scheduler has while a queue waits. It also prints how long those jobs
took by the clock, and how far the scheduler's promises were from that.
"""

import asyncio
import random
import tempfile
from datetime import datetime
from pathlib import Path
from statistics import mean, quantiles

import httpx
from bench.bench_stack import BenchStack, submit_until_accepted

from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log.bus import connect
from dreamforge.scheduler.replay import capture
from dreamforge.scheduler.settings import SchedulerSettings

PATH = Path(__file__).parent / "recorded_fleet.json"
#: Seconds a step: a fast runner, and two that take four times as long.
DELAYS = {"fast": 0.02, "slow-1": 0.08, "slow-2": 0.08}
WARM_UP_JOBS, JOBS = 24, 48
SIDES, STEPS, IMAGES = (64, 128), (10, 20, 40), (1, 1, 1, 4)


async def main() -> None:
    """Start, warm up, submit, capture, wait, print."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with EmbeddedStack(folder / "servers") as stack:
            system = BenchStack(stack, folder, FORGE_RUNNER_RENDERER="synthetic", FORGE_RUNNER_DEVICE_SHARES="3")
            try:
                gateway, scheduler, _ = (system.add(kind, kind) for kind in ("gateway", "scheduler", "projector"))
                for runner, delay in DELAYS.items():
                    system.add(runner, "gpu-runner", FORGE_RUNNER_STEP_DELAY_SECONDS=str(delay))
                url = f"http://{gateway.spec.address}"
                await ended(url, [await submitted(url, chance) for _ in range(WARM_UP_JOBS)])
                waiting = [await submitted(url, chance) for _ in range(JOBS)]
                PATH.write_text(await recorded(stack.nats.url))
                print_results(await ended(url, waiting), f"http://{scheduler.spec.address}")
            finally:
                await system.stop()


async def submitted(url: str, chance: random.Random) -> str:
    """A job of a size, a number of steps and of images at random; its id."""
    side = chance.choice(SIDES)
    size = {"width_px": side, "height_px": side}
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
    asyncio.run(main())
