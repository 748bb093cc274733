"""The fleet and the queue of `bench.planning`: made by chance from a seed, of a given size."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from time import process_time

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.log.envelope import seal
from dreamforge.contracts.measured_times import SHAPES_MAX, MeasuredTimes
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import RunnerLoad
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.scheduler.planning.plan import PlannedAssignment
from dreamforge.scheduler.planning.planning_input import loads_of
from dreamforge.scheduler.planning.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MODEL_IDS = tuple(f"m{number:02}" for number in range(20))
MISSING_MODEL_ID = "not-installed"
GB = 10**9
# Of a hundred shapes: three larger than any card, and three of a model that no runner has.
TOO_LARGE, MISSING = (1, 34, 67), (2, 35, 68)
DEVICES = ((1.0, 24 * GB), (1.0, 24 * GB), (2.0, 24 * GB), (4.0, 16 * GB))
#: How much two runners of a device differ: the standard deviation of the logarithm.
NOISE = 0.05


def _descriptor(number: int, model_id: str) -> ModelDescriptor:
    return ModelDescriptor(
        model_id=model_id,
        family="f",
        digest="0" * 64,
        vram=VramProfile(resident_bytes=(2 + number % 7) * GB, denoise_bytes_per_latent=0, decode_bytes_per_px=1000),
        presets=(Preset(name="p", width_px=512, height_px=512, steps=20, guidance_scale=0),),
    )


MODELS = {name: _descriptor(number, name) for number, name in enumerate((*MODEL_IDS, MISSING_MODEL_ID))}


@dataclass(frozen=True, slots=True)
class WorkSizes:
    """How many there are of each."""

    runners: int
    jobs: int
    shapes: int
    tenants: int


@dataclass(slots=True)
class Work:
    """A queue, and a fleet with or without measured times. `fresh`: no job has waited for longer than two seconds."""

    sizes: WorkSizes
    measured: bool
    fresh: bool
    chance: random.Random = field(default_factory=lambda: random.Random(15))
    snapshot: Snapshot = field(default_factory=Snapshot)
    sequence: Iterator[int] = field(default_factory=lambda: count(1))
    shapes: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shapes = [_shape(number) for number in range(self.sizes.shapes)]
        for _ in range(self.sizes.jobs):
            self.request(NOON)

    def request(self, at: datetime) -> str:
        """One more job in the queue; its id."""
        number = next(self.sequence)
        event = requested(number, self.shapes, self.sizes, at - timedelta(seconds=self._age(number)), self.chance)
        self.snapshot.observe(f"job-{number:08}", event, number)
        return f"job-{number:08}"

    def _age(self, number: int) -> float:
        return number % 1997 / 1000 if self.fresh else 60 + number % 997

    def fleet(self) -> list[Heartbeat]:
        """The runners, whatever is on them."""
        return [self._heartbeat(number) for number in range(self.sizes.runners)]

    def occupy(self, fleet: list[Heartbeat]) -> None:
        """Every runner has a job that ends within 20 s."""
        for heartbeat in fleet:
            self._place(self.request(NOON), heartbeat.runner_id, self.chance.uniform(0, 20))

    def _place(self, job_id: str, runner_id: str, seconds: float) -> None:
        self.snapshot.promise(job_id, runner_id, "i", 5 * GB, NOON + timedelta(seconds=seconds))

    def finish(self, runner_id: str) -> None:
        """What runs there ends."""
        for job_id in list(self.snapshot.placed_on(runner_id)):
            self.snapshot.drop(job_id)

    def apply(self, assignments: tuple[PlannedAssignment, ...], now: datetime) -> None:
        """As the scheduler does before it plans again."""
        for each in assignments:
            end = each.ends_at(now) or now + timedelta(seconds=20)
            self.snapshot.promise(each.job.job_id, each.runner_id, "i", each.required_bytes, end)

    def after_a_run(self, heartbeat: Heartbeat) -> Heartbeat:
        """The next heartbeat of a runner that has ended a job: one of its times is another, and its free memory."""
        times = heartbeat.times
        if times.steps:
            shape = self.chance.choice(sorted(times.steps))
            steps = {**times.steps, shape: {1: times.steps[shape][1] * self.chance.lognormvariate(0, NOISE)}}
            times = times.model_copy(update={"steps": steps})
        budget_bytes = heartbeat.budget_bytes + self.chance.randrange(-(10**6), 10**6)
        return heartbeat.model_copy(update={"times": times, "budget_bytes": budget_bytes})

    def loads(self, fleet: list[Heartbeat]) -> list[RunnerLoad]:
        """The fleet with what the fold has placed on it."""
        return loads_of(tuple(fleet), self.snapshot)

    def _heartbeat(self, number: int) -> Heartbeat:
        slow, total_bytes = DEVICES[number % len(DEVICES)]
        return Heartbeat(
            runner_id=f"r{number:04}",
            instance_id="i",
            at=NOON,
            renderer="x",
            device=Device(kind="cuda", name=f"card-{slow}-{total_bytes}", total_bytes=total_bytes),
            budget_bytes=total_bytes - self.chance.randrange(10**8),
            free_bytes=0,
            slots=1,
            model_ids=MODEL_IDS,
            resident_model_ids=tuple(self.chance.sample(MODEL_IDS, 2)),
            times=self._times(slow) if self.measured else MeasuredTimes(),
        )

    def _times(self, slow: float) -> MeasuredTimes:
        """Of the shapes that it rendered last, by a speed of its own."""
        own = slow * self.chance.lognormvariate(0, NOISE)
        shapes = self.chance.sample(self.shapes, min(SHAPES_MAX, len(self.shapes)))
        fit = [(model_id, width, height) for model_id, width, height in shapes if model_id != MISSING_MODEL_ID]
        steps = {
            f"{model_id} {width}x{height}": {1: own * width * height * 1e-7 * (1 + MODEL_IDS.index(model_id) % 3)}
            for model_id, width, height in fit
            if width < 8192
        }
        return MeasuredTimes(steps=steps, beside=dict.fromkeys(steps, 0.5), load_bytes_per_second=1e9 / slow)


def _shape(number: int) -> tuple[str, int, int]:
    """Model and size; some that fit nowhere."""
    model_id = MISSING_MODEL_ID if number % 100 in MISSING else MODEL_IDS[number % len(MODEL_IDS)]
    nth = number // len(MODEL_IDS)
    if number % 100 in TOO_LARGE:
        return model_id, 8192 + 64 * nth, 8192
    return model_id, 512 + 64 * (nth % 10), 512 + 64 * (nth // 10)


def requested(
    number: int, shapes: list[tuple[str, int, int]], sizes: WorkSizes, at: datetime, chance: random.Random
) -> JobRequested:
    """A job of one of the shapes, of one of the tenants."""
    model_id, width_px, height_px = chance.choice(shapes)
    request = RenderRequest(
        model_id=model_id, preset="p", prompt="x", width_px=width_px, height_px=height_px, guidance_scale=0,
        steps=chance.choice((20, 30)), images=chance.choice((1, 1, 2)), seed=number,
    )  # fmt: skip
    return JobRequested(at=at, tenant=f"t{number % sizes.tenants:04}", priority=5, request=request)


def folded_log(sizes: WorkSizes, snapshot: Snapshot | None = None, *, after: int = 0) -> tuple[float, Snapshot]:
    """Fold requests from sealed messages, as they come from the log; processor seconds, and the fold.

    Into an empty fold, or one that has `after` jobs.
    """
    chance, snapshot, seconds = random.Random(15), snapshot or Snapshot(), 0.0
    shapes = [_shape(number) for number in range(sizes.shapes)]
    for start in range(after + 1, after + sizes.jobs + 1, 1000):
        numbers = range(start, min(start + 1000, after + sizes.jobs + 1))
        messages = [
            seal(requested(number, shapes, sizes, NOON, chance), entity_id=f"job-{number:08}", event_id=f"{number}",
                 source="/dreamforge/bench")
            for number in numbers
        ]  # fmt: skip
        began = process_time()
        for number, message in zip(numbers, messages, strict=True):
            snapshot.apply(message.subject, message.headers, message.data, number)
        seconds += process_time() - began
    return seconds, snapshot
