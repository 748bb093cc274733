"""When jobs will start and end: the order and the rule of the plan, run on over the queue as if time passed. Pure.

Each job takes the runner that ends it soonest, whether that is free now or not, until so many jobs were placed. What is
still to come (new jobs, failures, priorities that change) is not foreseen.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from math import inf, isinf

from dreamforge.contracts.events import EstimateSource
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.forecasts import Forecast, ForecastAnswer, SecondsRange
from dreamforge.contracts.placement import Models, Needs, least_bytes, rungs_for, tier_on
from dreamforge.contracts.queue_control import hold_of
from dreamforge.scheduler.planning.batch_forecast import batch_forecast
from dreamforge.scheduler.planning.calibration import Calibration
from dreamforge.scheduler.planning.capacity import FleetCapacity
from dreamforge.scheduler.planning.fairness import Ageing
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.open_job import OpenJob, Stage
from dreamforge.scheduler.planning.plan import rank_behind_smaller
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.planning.timelines import Expected
from dreamforge.scheduler.planning.turns import Turns

# Jobs that one forecast places: about 50 ms of work for a fleet of 100.
JOBS_MAX = 500
# How many times as long nine of ten jobs may take where the time is not measured on the runner itself.
UNCERTAINTY = {EstimateSource.MEASURED: 1.0, EstimateSource.SCALED: 1.5, EstimateSource.GUESSED: 4.0}


@dataclass(slots=True)
class QueueForecast:
    """The course of the first JOBS_MAX queued jobs, as expected at one time."""

    capacity: FleetCapacity
    snapshot: Snapshot
    now: datetime
    calibration: Calibration
    placed: dict[str, tuple[Expected, int]] = field(default_factory=dict)
    _idle: dict[str, Expected] = field(default_factory=dict)

    @staticmethod
    def of(
        index: FleetIndex,
        snapshot: Snapshot,
        now: datetime,
        calibration: Calibration,
        until: Set[str] | None = None,
    ) -> "QueueForecast":
        """Place jobs until all of these are placed; None: as many as are looked at."""
        found = QueueForecast(FleetCapacity(index, snapshot, now), snapshot, now, calibration)
        missing = len(until) if until is not None else JOBS_MAX
        for place, (job, expected) in zip(range(JOBS_MAX), found._course(), strict=False):
            found.placed[job.job_id] = (expected, place)
            missing -= until is None or job.job_id in until
            if not missing:
                break
        return found

    def answer(self, job_id: str) -> ForecastAnswer:
        """What is expected of a job."""
        if (job := self.snapshot.jobs.get(job_id)) is None:
            return ForecastAnswer(reason="the job is not open")
        if job.on_runner:
            return self._of_running(job)
        if job_id in self.placed:
            expected, ahead = self.placed[job_id]
            if not isinf(expected.end_seconds):
                return ForecastAnswer(forecast=self._of_queued(job, expected, ahead))
        return ForecastAnswer(reason=self._why_none(job))

    def answer_of_batch(self, job_ids: Sequence[str]) -> ForecastAnswer:
        """What is expected of jobs that were asked about together; of a part of them, with the reason."""
        answers = [self.answer(job_id) for job_id in job_ids]
        found = [each.forecast for each in answers if each.forecast is not None]
        reasons = {each.reason: None for each in answers if each.reason is not None}
        reason = "; ".join(reasons) or None
        if found and reason is not None:
            reason = f"of {len(job_ids) - len(found)} of {len(job_ids)} jobs: {reason}"
        return ForecastAnswer(batch=batch_forecast(found) if found else None, reason=reason)

    def _course(self) -> Iterator[tuple[OpenJob, Expected]]:
        queue, turns = self.snapshot.queue, Turns(self.snapshot.queue, self.snapshot.jobs)
        known = {shape for shape in queue.shapes() if self._is_known(shape)}
        while known and (tenant := turns.next(known)) is not None:
            heads = [self.snapshot.jobs[job_id] for (_, job_id), _ in turns.heads(tenant, known)]
            job = min(heads, key=lambda each: self._rank(each, queue.ageing))
            turns.take(job)
            expected = self._soonest(job)
            self.capacity.promise(job.demand, expected)
            yield job, expected

    def _is_known(self, shape: Needs) -> bool:
        """Whether some runner can take it, and some runner has measured its model."""
        known = shape.model_id in self.capacity.models and self.capacity.timelines.knows(shape)
        return known and self._is_able(shape)

    def _is_able(self, shape: Needs) -> bool:
        return next(self.capacity.runners_for(shape), None) is not None

    def _rank(self, job: OpenJob, ageing: Ageing) -> tuple[float, str]:
        rank = ageing.rank(job.priority, job.demand.requested_at)
        seconds = self.capacity.timelines.quickest_seconds(job.demand)
        return rank_behind_smaller(rank, seconds, ageing), job.job_id

    def _soonest(self, job: OpenJob) -> Expected:
        """The runner that ends it soonest of all."""
        now = self.capacity.soonest_now(job.demand)
        later = self.capacity.soonest_later(job.demand, inf if now is None else now.end_seconds)
        chosen = later or now or self._unknown(job)
        if now is not None and now is not chosen:
            self._idle[job.job_id] = now
        return chosen

    def _unknown(self, job: OpenJob) -> Expected:
        """All that can take it are busy with jobs of which nothing was promised."""
        return self.capacity.timelines.expected(job.demand, next(self.capacity.runners_for(job.demand.shape)))

    def _of_queued(self, job: OpenJob, expected: Expected, ahead: int) -> Forecast:
        idle = self._idle.get(job.job_id)
        if idle is not None and idle.start_seconds > idle.load_seconds:
            idle = None  # it would not start there now either
        tier = tier_on(self._heartbeat(expected.runner_id), job.demand.shape, self.capacity.models)
        named = tier is not None and self.capacity.models[job.demand.shape.model_id].tiers
        return Forecast(
            runner_id=expected.runner_id,
            tier=tier.name if tier is not None and named else None,
            rungs=rungs_for(self._heartbeat(expected.runner_id), job.demand.shape),
            load_seconds=round(expected.load_seconds, 3),
            starts_in_seconds=self._range(expected.start_seconds, expected),
            ends_in_seconds=self._range(expected.end_seconds, expected),
            ahead=ahead,
            estimate=expected.source,
            idle_runner_id=idle.runner_id if idle else None,
            idle_ends_in_seconds=round(idle.end_seconds, 3) if idle else None,
        )

    def _of_running(self, job: OpenJob) -> ForecastAnswer:
        if job.ends_at is None:
            return ForecastAnswer(reason="its runner had measured nothing of the kind when it was assigned")
        left = (job.ends_at - self.now).total_seconds()
        left = left if left > 0 else -left  # late: as late again, as the plan expects
        expected = Expected(job.runner_id, 0.0, left, 0.0, EstimateSource.MEASURED)
        forecast = Forecast(
            runner_id=job.runner_id,
            load_seconds=0,
            starts_in_seconds=None,
            ends_in_seconds=self._range(left, expected),
            ahead=0,
            estimate=expected.source,
        )
        return ForecastAnswer(forecast=forecast)

    def _range(self, seconds: float, expected: Expected) -> SecondsRange:
        p50, p90 = self.calibration.ratios(expected.runner_id)
        later = max(p50, p90 * UNCERTAINTY[expected.source])
        return SecondsRange(p50=round(seconds * p50, 3), p90=round(seconds * later, 3))

    def _heartbeat(self, runner_id: str) -> Heartbeat:
        return self.capacity.loads[runner_id].heartbeat

    def _why_none(self, job: OpenJob) -> str:
        shape, capacity = job.demand.shape, self.capacity
        if job.stage is not Stage.QUEUED or hold_of(job.demand.tenant, self.snapshot.held_queues) is not None:
            return "it waits for its retry, or is held"
        if not capacity.loads:
            return "no runner is alive"
        if shape.model_id not in capacity.models or not self._is_able(shape):
            return f"no runner that is alive can take it{_bytes_note(shape, capacity.models)}"
        if not capacity.timelines.knows(shape):
            return "no runner has measured its model yet"
        if job.job_id in self.placed:
            return "the runners that can take it are busy with jobs of which nothing was measured"
        return f"more than {JOBS_MAX} jobs are before it"


def _bytes_note(shape: Needs, models: Models) -> str:
    """The memory it needs, where that is known."""
    if not all(each in models for each in (shape.model_id, *shape.assets)):
        return ""
    return f": it needs {least_bytes(shape, models)} bytes"
