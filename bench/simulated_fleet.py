"""A discrete-event simulation of a fleet around the real fold and the real plan of the scheduler."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from statistics import mean, median, quantiles

from dreamforge.contracts.events import JobRequested, JobStarted, JobSucceeded
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.jobs.attempts import decide_course
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.placement import Needs, needs_of
from dreamforge.gpu_runner.supervisor.run_times import RunTimes
from dreamforge.scheduler.planning.plan import PlannedAssignment, plan
from dreamforge.scheduler.planning.planning_input import loads_of
from dreamforge.scheduler.planning.snapshot import Snapshot

START = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING = MeasuredTimes()
#: How much two runs of the same kind differ: the standard deviation of the logarithm.
NOISE = 0.08


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job, and when it is requested."""

    seconds: float
    event: JobRequested


@dataclass(frozen=True, slots=True)
class RunnerModel:
    """How a runner really behaves; the plan only knows what it has measured.

    What `recorded` has of a shape or of a model counts for it; `seconds_a_pixel`, `load_bytes_per_second` and
    `beside_seconds` are for the others. `resident_bytes`: what models that stay loaded may take.
    """

    runner_id: str
    device: str
    budget_bytes: int
    #: Seconds a step of one pixel, by model.
    seconds_a_pixel: dict[str, float]
    load_bytes_per_second: float
    beside_seconds: float
    models: dict[str, ModelDescriptor]
    resident_bytes: int
    recorded: MeasuredTimes = NOTHING

    def step_seconds(self, needs: Needs) -> float:
        """Of one image alone."""
        measured = self.recorded.steps.get(needs.batch_shape, {}).get(1)
        return measured or self.seconds_a_pixel[needs.model_id] * needs.width_px * needs.height_px

    def beside(self, needs: Needs) -> float:
        """What an image takes beside its steps."""
        return self.recorded.beside.get(needs.batch_shape, self.beside_seconds)

    def load_seconds(self, model_id: str) -> float:
        """To read a model that is not loaded."""
        measured = self.recorded.loads.get(model_id)
        return measured or self.models[model_id].vram.resident_bytes / self.load_bytes_per_second


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds from request to end; `error_p50` is the median of |real / promised - 1|."""

    mean_seconds: float
    p95_seconds: float
    error_p50: float


@dataclass(slots=True)
class _Runner:
    of: RunnerModel
    tells_times: bool
    times: RunTimes = field(default_factory=RunTimes)
    resident: list[str] = field(default_factory=list)
    beat: Heartbeat | None = None

    def heartbeat(self) -> Heartbeat:
        if self.beat is None:
            self.beat = Heartbeat(
                runner_id=self.of.runner_id,
                instance_id="i",
                at=START,
                renderer="simulated",
                device=Device(kind="cuda", name=self.of.device, total_bytes=self.of.budget_bytes),
                budget_bytes=self.of.budget_bytes,
                free_bytes=0,
                slots=1,
                model_ids=tuple(sorted(self.of.models)),
                resident_model_ids=tuple(sorted(self.resident)),
                times=self.times.measured if self.tells_times else NOTHING,
            )
        return self.beat

    def run(self, event: JobRequested, chance: random.Random) -> float:
        """Render a job, and measure it as a runner does; the seconds it takes."""
        request, needs = event.request, needs_of(event.request)
        seconds = self._load(request.model_id, chance)
        for _ in range(request.images):
            step = self.of.step_seconds(needs) * chance.lognormvariate(0, NOISE)
            beside = self.of.beside(needs) * chance.lognormvariate(0, NOISE)
            self.times.stepped(needs.batch_shape, 1, step)
            self.times.finished(needs.batch_shape, beside, 0.0)
            seconds += step * request.steps_at_full_size + beside
        self.beat = None
        return seconds

    def _load(self, model_id: str, chance: random.Random) -> float:
        if model_id in self.resident:
            self.resident.append(self.resident.pop(self.resident.index(model_id)))
            return 0.0
        self.resident.append(model_id)
        while len(self.resident) > 1 and self._resident_bytes() > self.of.resident_bytes:
            self.resident.pop(0)
        size_bytes = self.of.models[model_id].vram.resident_bytes
        seconds = self.of.load_seconds(model_id) * chance.lognormvariate(0, NOISE)
        self.times.loaded(model_id, seconds, size_bytes)
        return seconds

    def _resident_bytes(self) -> int:
        return sum(self.of.models[each].vram.resident_bytes for each in self.resident)


def simulate(runners: Sequence[RunnerModel], arrivals: Sequence[Arrival], seed: int, *, tells_times: bool) -> Outcome:
    """Every job from its request to its end."""
    return _Simulation(runners, arrivals, seed, tells_times).outcome()


class _Simulation:
    def __init__(
        self, runners: Sequence[RunnerModel], arrivals: Sequence[Arrival], seed: int, tells_times: bool
    ) -> None:
        self._fleet = {each.runner_id: _Runner(each, tells_times) for each in runners}
        self._models = {name: model for each in runners for name, model in each.models.items()}
        self._snapshot = Snapshot()
        self._chance = random.Random(seed)
        self._order, self._sequence = count(), count(1)
        self._events: list[tuple[float, int, str, JobRequested | None]] = []
        self._requested: dict[str, JobRequested] = {}
        self._took: list[float] = []
        self._errors: list[float] = []
        for number, arrival in enumerate(arrivals):
            heappush(self._events, (arrival.seconds, next(self._order), f"job-{number:05}", arrival.event))

    def outcome(self) -> Outcome:
        while self._events:
            seconds, _, job_id, requested = heappop(self._events)
            now = START + timedelta(seconds=seconds)
            if requested is not None:
                self._requested[job_id] = requested.model_copy(update={"at": now})
                self._snapshot.observe(job_id, self._requested[job_id], next(self._sequence))
            else:
                self._end(job_id, now)
            self._plan(now, seconds)
        assert len(self._took) == len(self._requested), "every job ends"
        p95 = quantiles(self._took, n=20)[-1]
        return Outcome(mean(self._took), p95, median(self._errors) if self._errors else 0.0)

    def _end(self, job_id: str, now: datetime) -> None:
        done = JobSucceeded(at=now, attempt=1, artifacts=(), render_seconds=0)
        self._snapshot.observe(job_id, done, next(self._sequence))
        self._took.append((now - self._requested[job_id].at).total_seconds())

    def _plan(self, now: datetime, seconds: float) -> None:
        beats = tuple(runner.heartbeat() for runner in self._fleet.values())
        for assignment in plan(loads_of(beats, self._snapshot), self._snapshot, self._models, now):
            self._start(assignment, now, seconds)

    def _start(self, assignment: PlannedAssignment, now: datetime, seconds: float) -> None:
        job_id, name = assignment.job.job_id, assignment.runner_id
        self._snapshot.promise(job_id, name, "i", assignment.required_bytes, assignment.ends_at(now))
        (assigned,) = decide_course(assignment.job, assignment.command(now))
        self._snapshot.observe(job_id, assigned, next(self._sequence))
        started = JobStarted(at=now, attempt=1, runner_id=name, instance_id="i")
        self._snapshot.observe(job_id, started, next(self._sequence))
        took = self._fleet[name].run(self._requested[job_id], self._chance)
        if (promised := assignment.decision.promised_seconds) is not None:
            self._errors.append(abs(took / promised - 1))
        heappush(self._events, (seconds + took, next(self._order), job_id, None))
