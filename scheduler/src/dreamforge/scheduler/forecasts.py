"""Answers the gateway's questions when a job will start and end. Only the scheduler that leads answers."""

import asyncio
from collections.abc import Callable, Set
from dataclasses import dataclass

from loguru import logger
from nats.aio.msg import Msg
from pydantic import ValidationError

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.forecasts import ForecastAnswer, ForecastQuestion
from dreamforge.contracts.log.subjects import FORECASTS
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.scheduler.planning.calibration import Calibration
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.forecast import QueueForecast
from dreamforge.scheduler.planning.open_job import opened
from dreamforge.scheduler.planning.snapshot import Snapshot

# How long one forecast of the queue answers for all of its jobs. Longer, and a page that asks often sees no progress.
FRESH_SECONDS = 1.0
# The part of its time that the scheduler spends on requests that were not made: with a long queue each takes 50 ms, in
# which nothing is assigned.
PREVIEW_SHARE = 0.2
BUSY = "many ask at once: ask again in a second"
# What requests that were not made are called while they stand in the queue, with their number behind it.
PREVIEW_ID = "preview"


@dataclass(slots=True)
class Forecasts:
    """`decides`: whether this scheduler leads now."""

    bus: Bus
    snapshot: Snapshot
    calibration: Calibration
    index: FleetIndex
    decides: Callable[[], bool]
    _latest: QueueForecast | None = None
    _made_at: float = 0.0
    _preview_from: float = 0.0

    async def run(self) -> None:
        """Answer until cancelled."""
        subscription = await self.bus.nc.subscribe(FORECASTS, cb=self._answer)
        try:
            await asyncio.Event().wait()
        finally:
            await subscription.unsubscribe()

    def answer(self, question: ForecastQuestion) -> ForecastAnswer:
        """What is expected of the job that is asked about."""
        if question.job_id is not None:
            return self._of_queue().answer(question.job_id)
        if (began := clock.monotonic_seconds()) < self._preview_from:
            return ForecastAnswer(reason=BUSY)
        answer = self._preview(question)
        now = clock.monotonic_seconds()
        self._preview_from = now + (now - began) * (1 / PREVIEW_SHARE - 1)
        return answer

    def _preview(self, question: ForecastQuestion) -> ForecastAnswer:
        """Of a request or a batch that was not made."""
        requests = [question.requested] if question.requested is not None else []
        if (batch := question.batch) is not None:
            requests = [batch.requests[index] for index in batch.jobs]
        jobs = [opened(f"{PREVIEW_ID}-{number:04}", each, 0) for number, each in enumerate(requests)]
        job_ids = tuple(job.job_id for job in jobs)
        with self.snapshot.with_jobs(jobs):
            found = self._forecast(until=set(job_ids))
            return found.answer(*job_ids) if batch is None else found.answer_of_batch(job_ids)

    async def _answer(self, message: Msg) -> None:
        if not self.decides():
            return
        try:
            answer = self.answer(ForecastQuestion.model_validate_json(message.data))
        except ValidationError as error:
            answer = ForecastAnswer(reason=f"the scheduler cannot read the question: {error.error_count()} errors")
        try:
            await self.bus.publish(message.reply, answer.model_dump_json().encode())
        except DependencyAway as error:
            logger.debug("a forecast could not be sent: {}", error)

    def _of_queue(self) -> QueueForecast:
        now = clock.monotonic_seconds()
        if self._latest is None or now - self._made_at > FRESH_SECONDS:
            self._latest, self._made_at = self._forecast(until=None), now
        return self._latest

    def _forecast(self, until: Set[str] | None) -> QueueForecast:
        self.index.follow(self.snapshot)
        return QueueForecast.of(self.index, self.snapshot, clock.now(), self.calibration, until)
