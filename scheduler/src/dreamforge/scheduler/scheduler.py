"""Folds the log, plans when something changed, and appends the planned assignments.

The I/O around the pure plan. Nothing polls: a message of the log, a heartbeat or a timer wakes the planner.
"""

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any

from loguru import logger

from dreamforge.contracts.errors import BrokerUnfit, Conflict, DependencyAway, VersionConflict
from dreamforge.contracts.jobs.attempts import decide_course
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.queue_control import tenant_of_scope
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.follow import Batch, Follower
from dreamforge.runtime.log.leadership import Leadership
from dreamforge.runtime.log.views import FleetView, ModelsView, QueuesView, TenantsView
from dreamforge.runtime.service import tracing
from dreamforge.runtime.service.background import Alarm, BackgroundTasks
from dreamforge.runtime.service.gc_tuning import leave_out_what_is_there
from dreamforge.runtime.service.spans import NO_ATTRIBUTES
from dreamforge.runtime.service.telemetry import LAG
from dreamforge.scheduler import metrics, timers
from dreamforge.scheduler.assignment_span import span_of_assignment
from dreamforge.scheduler.forecasts import Forecasts
from dreamforge.scheduler.liveness.lost_job_rescuer import LostJobRescuer
from dreamforge.scheduler.next_model_hints import NextModelHints
from dreamforge.scheduler.planning.calibration import Calibration
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.open_job import OpenJob
from dreamforge.scheduler.planning.plan import PlannedAssignment, plan_from
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.planning.waiting_work import waiting_seconds
from dreamforge.scheduler.settings import SchedulerSettings

# Further behind than one pull of messages, most of what the fold would plan is refused by the log.
BEHIND_MESSAGES = 1_000
RETRY_PAUSE_SECONDS = 0.5
# Seconds between two looks at how much work waits, while some does: each takes a few milliseconds.
WAITING_INTERVAL = 1.0
# After a plan that took longer, what else this process does gets as much time before the next one.
LONG_PLAN_SECONDS = 0.005
# Part of the second within which another scheduler takes over.
CLOSE_SECONDS = 0.4


class Scheduler:
    """One scheduler process. Any number may run: one leads, the others keep folding so that they can take over.

    If two lead for a moment, the version check of the log still gives each job only one assignment.
    """

    def __init__(self, bus: Bus, settings: SchedulerSettings, instance_id: str) -> None:
        self._bus = bus
        self._settings = settings
        self._store = EventStore(bus, f"/dreamforge/scheduler/{instance_id}")
        self.snapshot = Snapshot(settings.ageing)
        self.fleet = FleetView(bus, on_heartbeat=self._heartbeat, on_lost=self._lost)
        self.models = ModelsView(bus, changed=self._models_changed)
        self.queues = QueuesView(bus, changed=self._queue_changed)
        self.tenants = TenantsView(bus, changed=self._tenant_changed)
        self.leadership = Leadership(bus, "scheduler", instance_id, self._leadership_changed)
        self.rescuer = LostJobRescuer(
            bus, self._store, self.snapshot, self.fleet, settings.patience, lambda: self.decides()
        )
        self.index = FleetIndex(self.models.models)
        self._calibration = Calibration()
        self._forecasts = Forecasts(bus, self.snapshot, self._calibration, self.index, self.decides)
        self._waiting_models: set[str] = set()
        self._waiting_told_at = -WAITING_INTERVAL
        self._behind: int | None = None
        self._wake = asyncio.Event()
        self._retry_alarm = Alarm(self._wake.set)
        self._background = BackgroundTasks()
        self._hints = NextModelHints(bus, self._background)
        self.ready = asyncio.Event()

    def loops(self) -> dict[str, Coroutine[Any, Any, None]]:  # Any: as asyncio declares
        """What this scheduler does until it is cancelled, by name; leadership comes last, to be given back first."""
        return {
            "fleet": self.fleet.run(),
            "models": self.models.run(),
            "queues": self.queues.run(),
            "tenants": self.tenants.run(),
            "jobs": self._follow(),
            "timers": timers.follow(self._bus, self._due),
            "plan": self._plan_when_woken(),
            "forecasts": self._forecasts.run(),
            "leadership": self._lead(),
        }

    async def check(self) -> None:
        """Readiness. Errors: DependencyAway until the log has been folded, and while the fold is far behind."""
        if not self.caught_up:
            raise DependencyAway(dependency="log", reason="not folded yet")

    async def close(self) -> None:
        """Wait for the appends in flight."""
        self.rescuer.alarm.off()
        self._retry_alarm.off()
        await self._background.close(CLOSE_SECONDS)
        await self.rescuer.background.close(CLOSE_SECONDS)
        await self._store.close()

    @property
    def caught_up(self) -> bool:
        """True once the log and every view have been read, and for as long as the fold keeps up."""
        views = (self.fleet, self.models, self.queues, self.tenants)
        read = self._behind is not None and all(view.ready.is_set() for view in views)
        return read and (self._behind or 0) <= BEHIND_MESSAGES

    def decides(self) -> bool:
        """Whether this scheduler plans and fails attempts now, or only follows the log."""
        return self.leadership.leads and self.caught_up

    async def _lead(self) -> None:
        """Try to lead only once the log has been read: before that, it could decide nothing."""
        await self.ready.wait()
        await self.leadership.run()

    def _leadership_changed(self, leads: bool) -> None:
        logger.info("this scheduler {}", "leads" if leads else "stands by")
        metrics.ACTIVE.set(leads)
        self._wake.set()

    def _models_changed(self, _: str) -> None:
        self.index.models_changed()
        self._wake.set()

    def _queue_changed(self, scope: str) -> None:
        self.snapshot.hold_queues(self.queues.held)
        state = "held" if scope in self.queues.held else "released"
        logger.info("queue {} is {}", tenant_of_scope(scope) or "of the fleet", state)
        self._wake.set()

    def _tenant_changed(self, tenant: str) -> None:
        """Its weight counts from the next assignment on; what it has received is not counted again."""
        self.snapshot.configure_tenants(self.tenants.tenants)
        logger.info("tenant {} has weight {}", tenant, self.tenants.tenants[tenant].weight)

    def _heartbeat(self, runner_id: str) -> None:
        self.rescuer.heartbeat(runner_id)
        self.index.place(self.fleet.runners[runner_id], self.snapshot)
        self._wake.set()

    def _lost(self, runner_id: str) -> None:
        self.index.remove(runner_id)
        self.rescuer.lease_ended(runner_id)

    def _due(self, job_id: str) -> None:
        """A timer has fired; if our clock is behind that of the broker, the difference is waited for here."""
        job = self.snapshot.jobs.get(job_id)
        self._retry_alarm.at(job.retry_at if job is not None else None)

    async def _follow(self) -> None:
        await self.tenants.ready.wait()  # what was assigned before counts with the weights of its time
        async for batch in Follower(self._bus, JOBS.name).batches():
            self._fold(batch)
            if batch.pending == 0 or self._behind is not None:  # the first plan waits for the whole log
                self._behind = batch.pending
                self._wake.set()

    def _fold(self, batch: Batch) -> None:
        for message in batch.messages:
            error = self.snapshot.apply(message.subject, message.headers, message.data, message.sequence)
            if error is not None:
                logger.warning("skipping message {}: {}", message.sequence, error)
        self._calibrate()
        LAG.labels("scheduler", JOBS.name).set(batch.pending)
        metrics.OPEN.set(len(self.snapshot.jobs))

    def _calibrate(self) -> None:
        """Compare promises with what came of them; what ended before this process started is in no metric."""
        if not (found := self.snapshot.kept_promises()):
            return
        for kept in found:
            self._calibration.ended(kept)
            if self.caught_up:
                metrics.PROMISE_RATIO.observe(kept.ratio)
        for quantile, seconds in zip(("0.5", "0.9"), self._calibration.error_seconds, strict=True):
            metrics.PROMISE_ERROR_SECONDS.labels(quantile).set(seconds)

    async def _plan_when_woken(self) -> None:
        for view in (self.fleet, self.models, self.queues, self.tenants):
            await view.ready.wait()
        self.rescuer.liveness.watching_since = clock.now()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self.caught_up and not self.ready.is_set():
                leave_out_what_is_there()  # with 400,000 open jobs a search for cycles stops everything for 0.7 s
                self.ready.set()
            if self.decides():
                self._arm(self.snapshot.new_waits())
                self.rescuer.resume()
                self.rescuer.alarm.at(self.snapshot.next_deadline)
                began = clock.monotonic_seconds()
                self._plan()
                took = clock.monotonic_seconds() - began
                await asyncio.sleep(took if took > LONG_PLAN_SECONDS else 0)

    def _arm(self, jobs: list[OpenJob]) -> None:
        for job in jobs:
            if job.retry_at is not None:
                self._background.spawn(self._arm_timer(job.job_id, job.retry_at), f"timer of {job.job_id}")

    async def _arm_timer(self, job_id: str, retry_at: datetime) -> None:
        try:
            await timers.arm(self._bus, job_id, retry_at)
        except BrokerUnfit as error:  # this process still knows when the retry is due
            logger.warning("job {} is retried by this scheduler only: {}", job_id, error)
            self._retry_alarm.at(retry_at)

    def _plan(self) -> None:
        now, started = clock.now(), clock.monotonic_seconds()
        self.snapshot.wake(now)
        self.index.follow(self.snapshot)
        if len(self.snapshot.queue):
            found = plan_from(self.index, self.snapshot, now, self._settings.plan_policy)
            for assignment in found:
                self._promise(assignment, now, started)
            if len(found) == self._settings.scheduler_assignments_max:
                self._wake.set()  # the plan was cut short, more jobs may fit
            metrics.PLAN_SECONDS.observe(clock.monotonic_seconds() - started)
        self._hints.send(self.index, self.snapshot.queue)
        metrics.QUEUED.set(len(self.snapshot.queue))
        self._tell_waiting_work(started)

    def _tell_waiting_work(self, now_seconds: float) -> None:
        """At once when nothing waits any more, else once in a while; a model for which nothing waits has 0."""
        waits = len(self.snapshot.queue) > 0
        if not (waits or self._waiting_models) or (waits and now_seconds < self._waiting_told_at + WAITING_INTERVAL):
            return
        self._waiting_told_at = now_seconds
        found = waiting_seconds(self.index.times, self.snapshot.queue)
        for model_id in self._waiting_models - found.keys():
            metrics.WAITING_SECONDS.labels(model_id).set(0)
        for model_id, seconds in found.items():
            metrics.WAITING_SECONDS.labels(model_id).set(seconds)
        self._waiting_models = set(found)

    def _promise(self, assignment: PlannedAssignment, now: datetime, began: float) -> None:
        """Plan with this assignment from now on, and append it: the appends of one plan go out as one batch."""
        self.snapshot.promise(
            assignment.job.job_id,
            assignment.runner_id,
            assignment.instance_id,
            assignment.required_bytes,
            assignment.ends_at(now),
        )
        self._background.spawn(self._assign(assignment, began), f"assign {assignment.job.job_id}")

    async def _assign(self, assignment: PlannedAssignment, began: float) -> None:
        """Append it; as a span it began with its plan. `began` by the monotonic clock."""
        job = assignment.job
        with tracing.span(
            "schedule job",
            parent=job.demand.traceparent,
            began_seconds_ago=clock.monotonic_seconds() - began,
            attributes=span_of_assignment(assignment) if tracing.records(job.demand.traceparent) else NO_ATTRIBUTES,
        ):
            await self._append(assignment)

    async def _append(self, assignment: PlannedAssignment) -> None:
        job = assignment.job
        try:
            events = decide_course(job, assignment.command(clock.now()))
            await self._store.append(job.job_id, events, expected=job.version, traceparent=job.demand.traceparent)
        except VersionConflict:  # another append came first; its event will be read from the log
            metrics.ASSIGNMENTS.labels("conflict").inc()
        except Conflict as error:  # the job's own rules refuse it, for one because our clock was set back
            metrics.ASSIGNMENTS.labels("conflict").inc()
            logger.warning("could not assign job {}: {}", job.job_id, error)
            await self._withdraw(job)
        except DependencyAway as error:
            metrics.ASSIGNMENTS.labels("away").inc()
            logger.warning("could not assign job {}: {}", job.job_id, error)
            await self._withdraw(job)
        else:
            metrics.ASSIGNMENTS.labels("assigned").inc()
            self.rescuer.alarm.at(events[0].at + timedelta(seconds=self._settings.scheduler_start_deadline_seconds))
            metrics.WAIT_SECONDS.observe(assignment.decision.waited_seconds, tracing.exemplar())
            logger.info("job {} attempt {} assigned to {}", job.job_id, job.attempt + 1, assignment.runner_id)

    async def _withdraw(self, job: OpenJob) -> None:
        """Plan a job again whose append did not happen, after a pause."""
        await asyncio.sleep(RETRY_PAUSE_SECONDS)
        self.snapshot.withdraw(job.job_id, job.version)
        self._wake.set()
