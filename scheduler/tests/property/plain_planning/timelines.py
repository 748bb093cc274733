"""When runners are free and when they would end a job: as `planning.timelines`, of all runners at once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from heapq import heapreplace

from dreamforge.contracts.events import EstimateSource
from dreamforge.contracts.placement import Models, Needs, RunnerLoad
from dreamforge.scheduler.planning.measured_pace import GUESSED, Pace
from dreamforge.scheduler.planning.open_job import JobDemand
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.planning.timelines import Expected, lanes_of

from .fleet_times import PlainFleetTimes


@dataclass(slots=True)
class _Row:
    """A shape on a runner, as things stand there.

    A runner that has measured nothing of the kind is expected to be as fast as the fastest that has: so it gets its
    first job, and is measured.
    """

    pace: Pace
    source: EstimateSource
    load_seconds: float
    together: int
    step_seconds: float
    """Of one image alone."""

    def run_seconds(self, demand: JobDemand, images: int) -> float:
        """Of so many images of such a job, without the load."""
        together = 1 if demand.batch_key is None else min(self.together, images)
        return self.pace.run_seconds(images, demand.steps, together)


class PlainTimelines:
    """The runners of one plan. What was asked once is kept until its runner changes."""

    def __init__(self, fleet: Iterable[RunnerLoad], snapshot: Snapshot, models: Models, now: datetime) -> None:
        loads = {load.heartbeat.runner_id: load for load in fleet}
        self._beats = {name: load.heartbeat for name, load in loads.items()}
        self.times = PlainFleetTimes(self._beats.values(), models)
        self._models = models
        self._lanes: dict[str, list[float]] = {}
        self._held: dict[str, frozenset[str]] = {}
        self._rows: dict[Needs, dict[str, _Row]] = {}
        self._fastest: dict[Needs, Pace | None] = {}
        if self.times.measured:
            for name, load in loads.items():
                placed = snapshot.placed_on(name)
                self._lanes[name] = lanes_of(load, placed, now)
                coming = {job.demand.shape.model_id for job in placed.values()}
                self._held[name] = frozenset((*load.heartbeat.resident_model_ids, *coming))

    @property
    def measured(self) -> bool:
        """Whether anything was measured; otherwise no time can be told."""
        return self.times.measured

    def expected(self, demand: JobDemand, runner_id: str, images: int | None = None) -> Expected:
        """The job's course on a runner that can take it; with others, of so many `images` in all."""
        row = self._row(demand.shape, runner_id)
        start = self._lanes[runner_id][0] + row.load_seconds
        after = row.pace.after_seconds
        end = start + row.run_seconds(demand, demand.images if images is None else images) + after
        return Expected(runner_id, start, end, row.load_seconds, row.source, after)

    def ends(self, demand: JobDemand) -> Callable[[str], float]:
        """When each runner would end such a job, as things stand when that is asked."""
        lanes, rows = self._lanes, self._rows.setdefault(demand.shape, {})
        images, steps, alone = demand.images, demand.steps, demand.batch_key is None or demand.images == 1

        def end(name: str) -> float:  # asked some thousand times a plan
            row = rows.get(name) or self._row(demand.shape, name)
            if alone or row.together == 1:
                run_seconds = images * (steps * row.step_seconds + row.pace.beside_seconds)
            else:
                run_seconds = row.run_seconds(demand, images)
            return lanes[name][0] + row.load_seconds + run_seconds + row.pace.after_seconds

        return end

    def source(self, shape: Needs, runner_id: str) -> EstimateSource:
        """What the times of a shape on a runner follow from."""
        return self._row(shape, runner_id).source

    def quickest_seconds(self, demand: JobDemand) -> float:
        """How long a job takes on the fastest runner that has measured its kind; 0 if none has."""
        pace = self._fastest_of(demand.shape) if self.measured else None
        return pace.run_seconds(demand.images, demand.steps) if pace else 0.0

    def take(self, demand: JobDemand, expected: Expected) -> None:
        """A runner gets a job, now or later: its next slot is free when the last image is rendered."""
        name, model_id = expected.runner_id, demand.shape.model_id
        heapreplace(self._lanes[name], expected.end_seconds - expected.after_seconds)
        if model_id not in self._held[name]:
            self._held[name] = self._with(name, model_id)
            for shape, rows in self._rows.items():
                if (row := rows.get(name)) is not None:
                    row.load_seconds = self._load_seconds(shape, name)

    def knows(self, shape: Needs) -> bool:
        """Whether any runner has measured this shape, or one that it can be scaled from."""
        return self.measured and self._fastest_of(shape) is not None

    def _row(self, shape: Needs, name: str) -> _Row:
        rows = self._rows.setdefault(shape, {})
        if (row := rows.get(name)) is None:
            pace = self.times.pace(shape, name)
            together = self._beats[name].batch_bound(shape.batch_shape)
            effective = (self._fastest_of(shape) if pace.source is GUESSED else None) or pace
            row = rows[name] = _Row(
                effective, pace.source, self._load_seconds(shape, name), together, effective.step_seconds()
            )
        return row

    def _load_seconds(self, shape: Needs, name: str) -> float:
        return 0.0 if shape.model_id in self._held[name] else self.times.load_seconds(shape.model_id, name)

    def _fastest_of(self, shape: Needs) -> Pace | None:
        if shape not in self._fastest:
            measured = self.times.fastest_measured(shape)
            paces = (self.times.pace(shape, name) for name in ((measured,) if measured else self._beats))
            known = (pace for pace in paces if pace.source is not GUESSED)
            self._fastest[shape] = min(known, key=lambda pace: pace.run_seconds(1, 1.0), default=None)
        return self._fastest[shape]

    def _with(self, name: str, model_id: str) -> frozenset[str]:
        """The models that a runner holds after it has loaded one more: all, if they fit its budget, or that one."""
        held = self._held[name] | {model_id}
        size_bytes = sum(self._models[each].vram.resident_bytes for each in held if each in self._models)
        return held if size_bytes <= self._beats[name].budget_bytes else frozenset((model_id,))
