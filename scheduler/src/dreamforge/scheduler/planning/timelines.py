"""When each runner is free and when it would end a job, while a plan gives it more. Pure; seconds from now.

Each runner has a lane for each slot: the time at which that slot is free. What runs there ends when it was promised to;
what has overrun its promise is expected to take as long again as it is late, so a wrong promise holds up no job for
longer than it is wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from heapq import heapify, heapreplace
from math import inf, isinf
from typing import Any

from dreamforge.contracts.events import EstimateSource
from dreamforge.contracts.placement import Needs, RunnerLoad
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.measured_pace import GUESSED, Pace, SizeOfModel
from dreamforge.scheduler.planning.open_job import JobDemand, OpenJob
from dreamforge.scheduler.planning.snapshot import Snapshot

# What an attempt that ends takes of its device at most: its runner says so when less is left (decision 0063).
ENDING_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Expected:
    """When a job would start and end on a runner, if it went there next. Seconds from now; loading is in `start`.

    `after_seconds` before its end its last image is rendered: the next job can start.
    """

    runner_id: str
    start_seconds: float
    end_seconds: float
    load_seconds: float
    source: EstimateSource
    after_seconds: float = 0.0

    @property
    def run_seconds(self) -> float:
        """From its first step until its last image is rendered."""
        return self.end_seconds - self.start_seconds - self.after_seconds

    @property
    def promise(self) -> dict[str, Any]:  # Any: fields of several types
        """As a decision records it."""
        if isinf(self.end_seconds):
            return {}
        start, end = (round(seconds, 3) for seconds in (self.start_seconds, self.end_seconds))
        return {"starts_in_seconds": start, "ends_in_seconds": end, "estimate": self.source}


class Timelines:
    """The runners of one plan. What was asked of a runner once is kept until the plan gives it something."""

    def __init__(self, index: FleetIndex, snapshot: Snapshot, now: datetime) -> None:
        self.times = index.times
        self.sooner: list[str] = []
        """Runners that may end a job sooner than before: of several slots, about to hold one more model."""
        self._index, self._snapshot, self._now = index, snapshot, now
        self._lanes: dict[str, list[float]] = {}
        self._held: dict[str, frozenset[str]] = {}
        self._fastest: dict[Needs, Pace | None] = {}
        self._quickest: dict[Needs, tuple[float, float]] = {}

    @property
    def measured(self) -> bool:
        """Whether anything was measured; otherwise no time can be told."""
        return self.times.measured

    def expected(self, demand: JobDemand, runner_id: str, images: int | None = None) -> Expected:
        """The job's course on a runner that can take it; with others, of so many `images` in all."""
        images = demand.images if images is None else images
        pace, source = self._pace(SizeOfModel.of(demand.shape), demand.shape, runner_id)
        load_seconds = self.load_seconds(demand.shape.model_id, runner_id)
        together = self._together(demand, runner_id, images)
        start = self._lanes_of(runner_id)[0] + load_seconds
        end = start + pace.run_seconds(images, demand.steps, together) + pace.after_seconds
        return Expected(runner_id, start, end, load_seconds, source, pace.after_seconds)

    def ends(self, demand: JobDemand, size: SizeOfModel) -> Callable[[str], float]:
        """When each runner would end such a job, as things stand when that is asked."""
        shape, images, steps = demand.shape, demand.images, demand.steps
        model_id, alone = shape.model_id, demand.batch_key is None or images == 1
        fastest, pace_of, lanes = self.times.fastest(size, shape), self.times.pace_of, self._lanes

        def end(name: str) -> float:  # asked some thousand times a plan
            pace = pace_of(size, shape, name)
            if pace.source is GUESSED:
                pace = fastest or pace
            together = 1 if alone else self._together(demand, name, images)
            run_seconds = images * (steps * pace.step_seconds(together) + pace.beside_seconds)
            start = (lanes.get(name) or self._lanes_of(name))[0] + self.load_seconds(model_id, name)
            return start + run_seconds + pace.after_seconds

        return end

    def runs(self, demand: JobDemand, size: SizeOfModel) -> Callable[[list[str]], list[tuple[float, str]]]:
        """What such a job takes on each of some runners at the least: its fastest steps, nothing before it."""
        shape, images, steps = demand.shape, demand.images, demand.steps
        alone = demand.batch_key is None or images == 1
        fastest = self.times.fastest(size, shape)

        def runs(names: list[str]) -> list[tuple[float, str]]:
            paces = self.times.paces(size, shape, names)
            known = ((fastest or pace) if pace.source is GUESSED else pace for pace in paces)
            return [
                (
                    images
                    * (steps * (pace.step_seconds() if alone else min(pace.steps.values())) + pace.beside_seconds)
                    + pace.after_seconds,
                    name,
                )
                for pace, name in zip(known, names, strict=True)
            ]

        return runs

    def start_seconds(self, model_id: str, runner_id: str) -> float:
        """When a runner could start the steps of a job of a model."""
        return self._lanes_of(runner_id)[0] + self.load_seconds(model_id, runner_id)

    def free_in_seconds(self, runner_id: str) -> float:
        """When a runner has its next slot free."""
        return self._lanes_of(runner_id)[0]

    def bounds(self, demand: JobDemand, size: SizeOfModel) -> tuple[float, float]:
        """No runner takes less for the steps of such a job than its least step (`FleetTimes.least_of`) times the first
        of these, and the second.
        """
        pixels = demand.images * size.pixels
        return demand.steps * pixels, pixels * self.times.least_of(size.model_id).seconds_a_pixel[1]

    def least_seconds(self, demand: JobDemand, size: SizeOfModel) -> float:
        """No runner takes less for the steps of such a job."""
        factor, beside_seconds = self.bounds(demand, size)
        return factor * self.times.least_of(size.model_id).seconds_a_pixel[0] + beside_seconds

    def source(self, size: SizeOfModel, shape: Needs, runner_id: str) -> EstimateSource:
        """What the times of a shape on a runner follow from."""
        return self.times.pace_of(size, shape, runner_id).source

    def quickest_seconds(self, demand: JobDemand) -> float:
        """How long a job takes on the fastest runner that has measured its kind; 0 if none has."""
        shape = demand.shape
        if (parts := self._quickest.get(shape)) is None:
            pace = self._fastest_of(shape) if self.measured else None
            parts = self._quickest[shape] = (pace.step_seconds(), pace.beside_seconds) if pace else (0.0, 0.0)
        return demand.images * (demand.steps * parts[0] + parts[1])

    def take(self, demand: JobDemand, expected: Expected) -> None:
        """A runner gets a job, now or later: its next slot is free when the last image is rendered."""
        name, model_id = expected.runner_id, demand.shape.model_id
        lanes = self._lanes_of(name)
        heapreplace(lanes, expected.end_seconds - expected.after_seconds)
        if model_id not in self.held_of(name):
            self._held[name] = self._with(name, model_id)
            if len(lanes) > 1:
                self.sooner.append(name)

    def knows(self, shape: Needs) -> bool:
        """Whether any runner has measured this shape, or one that it can be scaled from."""
        return self.measured and self._fastest_of(shape) is not None

    def load_seconds(self, model_id: str, runner_id: str) -> float:
        """How long a runner loads a model that it does not hold then."""
        held = self._held.get(runner_id) or self.held_of(runner_id)
        return 0.0 if model_id in held else self.times.load_seconds(model_id, runner_id)

    def _fastest_of(self, shape: Needs) -> Pace | None:
        if shape not in self._fastest:
            self._fastest[shape] = self.times.fastest(self._index.needs(shape).size, shape)
        return self._fastest[shape]

    def _pace(self, size: SizeOfModel, shape: Needs, name: str) -> tuple[Pace, EstimateSource]:
        """A runner that has measured nothing of the kind is expected to be as fast as the fastest that has: so it gets
        its first job, and is measured.
        """
        pace = self.times.pace_of(size, shape, name)
        return ((self.times.fastest(size, shape) or pace) if pace.source is GUESSED else pace), pace.source

    def _together(self, demand: JobDemand, name: str, images: int) -> int:
        """How many images of such a job are in one run."""
        if demand.batch_key is None:
            return 1
        return min(self._index.loads[name].heartbeat.batch_bound(demand.shape.batch_shape), images)

    def _lanes_of(self, name: str) -> list[float]:
        if (lanes := self._lanes.get(name)) is None:
            placed = self._snapshot.placed_on(name)
            lanes = self._lanes[name] = lanes_of(self._index.loads[name], placed, self._now)
        return lanes

    def held_of(self, name: str) -> frozenset[str]:
        """The models that a runner holds when it has done what it has."""
        if (held := self._held.get(name)) is None:
            coming = {job.demand.shape.model_id for job in self._snapshot.placed_on(name).values()}
            resident = self._index.loads[name].heartbeat.resident_model_ids
            held = self._held[name] = frozenset((*resident, *coming))
        return held

    def _with(self, name: str, model_id: str) -> frozenset[str]:
        """The models that a runner holds after it has loaded one more: all, if they fit its budget, or that one."""
        held, models = self.held_of(name) | {model_id}, self._index.models
        size_bytes = sum(models[each].vram.resident_bytes for each in held if each in models)
        return held if size_bytes <= self._index.loads[name].heartbeat.budget_bytes else frozenset((model_id,))


def lanes_of(load: RunnerLoad, placed: Mapping[str, OpenJob], now: datetime) -> list[float]:
    """When each slot is free. Attempts of a group end together and count as one slot each, as elsewhere; those that end
    hold none, but what comes next has to wait for their last steps.
    """
    ending = {(each.job_id, each.attempt) for each in load.heartbeat.ending}
    ends, last_steps = [], []
    for job in placed.values():
        if (job.job_id, job.attempt) in ending:
            last_steps.append(min(ENDING_SECONDS, _left_seconds(job, now)))
        else:
            ends.append(_left_seconds(job, now))
    held = [*[inf] * (load.committed_slots - len(ends)), *sorted(ends, reverse=True)]
    free = [*sorted(last_steps, reverse=True), *[0.0] * load.heartbeat.slots]
    lanes = [*held, *free][: load.heartbeat.slots]
    if load.free_slots and isinf(min(lanes)):
        lanes[-1] = 0.0
    heapify(lanes)
    return lanes


def _left_seconds(job: OpenJob, now: datetime) -> float:
    """How long a job goes on; infinite if nothing was promised. One that is late is as late again."""
    return inf if job.ends_at is None else abs((job.ends_at - now).total_seconds())
