"""What the system adds to a render: the same pictures by a bare diffusers script and through the whole of it.

Both paint with the shipped model, same settings and threads, in turns, so that neither sees another machine. The
system's time is a client's: from before the POST until `JobSucceeded` is in the log, pictures stored. Then what a
person waits for: a runner's cold start, its restart, a switch of models, a cancel.

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

from bench.bare import GUIDANCE, PROMPT, SIDE_PX, STEPS
from bench.ledger import Ledger
from bench.load import Connection
from bench.pipeline import percentile
from bench.recovery import Site, submitted
from bench.verdict import clock
from bench.victims import Service

from dreamforge.contracts.events import JobCancelled, JobStarted
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.streams import ensure_streams

MODELS = Path("models")
MODEL_ID = "forge-shapes"
WAIT_SECONDS = 120.0
RATIO_AIM = 1.05
# What a thread pool of torch would do to the other side's core.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


class Bare:
    """The script beside the system."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, model: Path) -> "Bare":
        """Started and warm: imports and loading are not what is compared."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.bare",
            str(model),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **ENVIRONMENT},
        )
        bare = cls(process)
        assert await bare._line() == "ready"
        return bare

    async def paint(self, first_seed: int, images: int) -> float:
        """Seconds for so many pictures."""
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

    def __init__(self, site: Site, ledger: Ledger) -> None:
        self.site, self.ledger = site, ledger
        self.url = f"http://{site.services['gateway'].spec.address}"

    @property
    def runner(self) -> Service:
        """The only one."""
        return self.site.services["r1"]

    async def ask(self, **more: object) -> str:
        """A job's id, once it is accepted."""
        return await submitted(self.url, **more)

    async def ended(self, job_id: str) -> None:
        """Once its terminal event was seen. Errors: TimeoutError."""
        if not await self.ledger.until(lambda: bool(self.ledger.terminal(job_id)), WAIT_SECONDS):
            raise TimeoutError(job_id)

    async def paint(self, first_seed: int, images: int) -> float:
        """Seconds for so many pictures in one job, from before the POST to the success."""
        connection = await Connection.open(self.url)
        body = {
            "model_id": MODEL_ID,
            "prompt": PROMPT,
            "width_px": SIDE_PX,
            "height_px": SIDE_PX,
            "steps": STEPS,
            "guidance_scale": GUIDANCE,
            "seed": first_seed,
            "images": images,
        }
        began = clock()
        answer = await connection.post("/v1/jobs", body)
        await self.ended(str(answer.body["job_id"]))
        seconds = clock() - began
        await connection.close()
        return seconds


async def ratio(system: System, bare: Bare, rounds: int, images: int) -> bool:
    """Both in turns, each first as often as second. True if the aim is reached."""
    await bare.paint(0, 1)
    await system.paint(0, 1)
    ratios, theirs, ours = [], [], []
    for number in range(rounds):
        seed = 1_000 * (number + 1)
        if number % 2:
            own, other = await system.paint(seed, images), await bare.paint(seed, images)
        else:
            other, own = await bare.paint(seed, images), await system.paint(seed, images)
        ratios.append(own / other)
        theirs.append(other)
        ours.append(own)
    found = median(ratios)
    print(f"{images} pictures, {rounds} rounds    bare {median(theirs):6.3f} s   system {median(ours):6.3f} s")
    print(
        f"{'ok' if found <= RATIO_AIM else 'NO'}  ratio {found:.3f} (median; {min(ratios):.3f} to {max(ratios):.3f};"
        f" aim {RATIO_AIM})",
        flush=True,
    )
    return found <= RATIO_AIM


async def start_up(system: System, how: signal.Signals) -> tuple[float, float]:
    """The runner ended and started again: seconds to its first heartbeat, and to a picture asked for meanwhile."""
    runner = system.runner
    runner.restart_seconds = 0.0
    assert runner.process is not None
    ended = asyncio.create_task(runner.process.wait())
    await runner.hurt(how, 0)
    await ended
    began = clock()
    heard = await system.ledger.bus.nc.subscribe("$KV.runners.r1")  # the old process is gone: what comes is the new one
    await heard.next_msg(timeout=WAIT_SECONDS)
    first_beat = clock() - began
    await system.ended(await system.ask(model_id=MODEL_ID, prompt=PROMPT, steps=4))
    painted = clock() - began
    await heard.unsubscribe()
    return first_beat, painted


async def switching(system: System, trials: int) -> tuple[float, float]:
    """Seconds of a small job whose model is loaded, and of one whose model has to be loaded first (medians)."""
    warm, cold = [], []
    for number in range(trials):
        for model_id in ("tiny", MODEL_ID):
            for seconds in (cold, warm):
                began = clock()
                await system.ended(await system.ask(model_id=model_id, prompt="x", steps=2, seed=number))
                seconds.append(clock() - began)
    return median(warm), median(cold)


async def cancelling(system: System, trials: int) -> list[float]:
    """From the wish to JobCancelled in the log, which the runner appends once the child is idle again."""
    found = []
    for _ in range(trials):
        job_id = await system.ask(model_id=MODEL_ID, prompt=PROMPT, steps=150, images=16)
        await system.ledger.until(lambda job_id=job_id: _saw(system, job_id, JobStarted), WAIT_SECONDS)  # type: ignore[misc]
        await system.ledger.until(lambda job_id=job_id: len(system.ledger.steps[job_id]) > 2, WAIT_SECONDS)  # type: ignore[misc]
        began = clock()
        connection = await Connection.open(system.url)
        await connection.post(f"/v1/jobs/{job_id}/cancel", {})
        await system.ledger.until(lambda job_id=job_id: _saw(system, job_id, JobCancelled), WAIT_SECONDS)  # type: ignore[misc]
        found.append(clock() - began)
        await connection.close()
    return found


def _saw(system: System, job_id: str, kind: type) -> bool:
    return any(isinstance(event, kind) for _, event in system.ledger.facts.get(job_id, []))


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
            "dreamforge.gpu_runner.rendering.tiny_model",
            str(models),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await tiny.wait()
        async with EmbeddedStack(folder / "servers") as stack:
            site = Site(stack, folder, FORGE_RUNNER_MODELS_DIR=str(models), **ENVIRONMENT)
            for name, kind in (("gateway", "gateway"), ("scheduler", "scheduler"), ("projector", "projector")):
                site.add(name, kind)
            site.add("r1", "gpu-runner", FORGE_RUNNER_THREADS="1", **json.loads(arguments.runner))
            bus = await bus_module.connect(stack.nats.url, "bench")
            await ensure_streams(bus)
            ledger = Ledger(bus)
            following = asyncio.create_task(ledger.run())
            system, bare = System(site, ledger), await Bare.start(models / MODEL_ID)
            try:
                reached = await ratio(system, bare, arguments.rounds, arguments.images)
                await bare.stop()
                await report(system, arguments.trials)
            finally:
                following.cancel()
                await site.stop()
                await bus.close()
    return 0 if reached else 1


async def report(system: System, trials: int) -> None:
    """The waits of people, each a row."""
    for name, how in (("runner stopped in order and started", signal.SIGTERM), ("killed and started", signal.SIGKILL)):
        found = [await start_up(system, how) for _ in range(trials)]
        beats, pictures = zip(*found, strict=True)
        print(
            f"{name:<40} first heartbeat {median(beats):5.2f} s   first picture {median(pictures):5.2f} s", flush=True
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
