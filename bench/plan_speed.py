"""How long one plan takes: 100 runners and 10,000 queued jobs, with and without measured times.

`python -m bench.placement --speed`. Processor time; of seven runs the fastest counts. The fold is built before.
"""

from datetime import UTC, datetime, timedelta
from itertools import product
from time import process_time

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import RunnerLoad
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.scheduler.planning.plan import plan
from dreamforge.scheduler.planning.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUNNERS, JOBS, RUNS = 100, 10_000, 7
MODEL_IDS, SIDES, STEPS, IMAGES = ("a", "b", "c"), (512, 768, 1024), (20, 30), (1, 2)
KINDS = tuple(product(MODEL_IDS, SIDES, STEPS, IMAGES))
MODELS = {
    name: ModelDescriptor(
        model_id=name,
        family="f",
        digest="0" * 64,
        vram=VramProfile(resident_bytes=5 * 10**9, denoise_bytes_per_latent=0, decode_bytes_per_px=100),
        presets=(Preset(name="p", width_px=512, height_px=512, steps=20, guidance_scale=0),),
    )
    for name in MODEL_IDS
}


def main() -> None:
    """Print a line for each state of the fleet."""
    snapshot = _queue()
    for busy, measured in product((0, RUNNERS - 1), (False, True)):
        fleet = [_load(number, busy=number < busy, measured=measured) for number in range(RUNNERS)]
        seconds, found = min(_timed(fleet, snapshot) for _ in range(RUNS))
        state = f"{busy} of {RUNNERS} runners busy, {'times measured' if measured else 'nothing measured'}"
        print(f"{state:48} {1000 * seconds:8.2f} ms for {found} assignments")


def _timed(fleet: list[RunnerLoad], snapshot: Snapshot) -> tuple[float, int]:
    began = process_time()
    found = plan(fleet, snapshot, MODELS, NOON)
    return process_time() - began, len(found)


def _queue() -> Snapshot:
    snapshot = Snapshot()
    for number in range(JOBS):
        model_id, side, steps, images = KINDS[number * 7 % len(KINDS)]
        request = RenderRequest(
            model_id=model_id, preset="p", prompt="x", width_px=side, height_px=side, steps=steps, guidance_scale=0,
            seed=number, images=images,
        )  # fmt: skip
        at = NOON - timedelta(seconds=number % 997)
        event = JobRequested(at=at, tenant=f"t{number % 20}", priority=number % 10, request=request)
        snapshot.observe(f"job-{number:05}", event, number + 1)
    return snapshot


def _load(number: int, *, busy: bool, measured: bool) -> RunnerLoad:
    slow = 1 + 3 * (number % 2)
    steps = {f"{name} {side}x{side}": {1: slow * side * side * 1e-7} for name in MODEL_IDS for side in SIDES}
    heartbeat = Heartbeat(
        runner_id=f"r{number:03}",
        instance_id="i",
        at=NOON,
        renderer="x",
        device=Device(kind="cuda", name=f"card-{slow}", total_bytes=24 * 10**9),
        budget_bytes=24 * 10**9,
        free_bytes=0,
        slots=1,
        model_ids=MODEL_IDS,
        resident_model_ids=(MODEL_IDS[number % 3],),
        times=MeasuredTimes(steps=steps, beside=dict.fromkeys(steps, 0.5)) if measured else MeasuredTimes(),
    )
    return RunnerLoad(heartbeat, 5 * 10**9 if busy else 0, int(busy))


if __name__ == "__main__":
    main()
