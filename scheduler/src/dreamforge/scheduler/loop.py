"""The scheduler at work: folds the log, plans when something changed, appends what it planned.

The only I/O around the pure heart. Nothing polls: a message of the log, a heartbeat or a timer wakes the planner.
"""

import asyncio

from loguru import logger

from dreamforge.contracts.errors import DependencyAway, VersionConflict
from dreamforge.contracts.placement import RunnerLoad
from dreamforge.contracts.streams import JOBS
from dreamforge.runtime import clock
from dreamforge.runtime.bus import Bus
from dreamforge.runtime.eventstore import EventStore
from dreamforge.runtime.follow import Batch, Follower
from dreamforge.runtime.telemetry import LAG
from dreamforge.runtime.views import FleetView, ModelsView
from dreamforge.scheduler import metrics
from dreamforge.scheduler.plan import Assignment, plan
from dreamforge.scheduler.settings import SchedulerSettings
from dreamforge.scheduler.snapshot import Snapshot

# Behind by more than one pull, the fold is history: what it would plan is refused by the log anyway.
BEHIND_MESSAGES = 1_000
AWAY_PAUSE_SECONDS = 0.5


class Scheduler:
    """One scheduler process. Any number may run: the log's version check keeps each job to one assignment."""

    def __init__(self, bus: Bus, settings: SchedulerSettings, instance_id: str) -> None:
        self._settings = settings
        self._store = EventStore(bus, f"/dreamforge/scheduler/{instance_id}")
        self.snapshot = Snapshot(settings.ageing)
        self.fleet = FleetView(bus, on_beat=self._changed, on_lost=self._changed)
        self.models = ModelsView(bus, changed=self._changed)
        self._jobs = Follower(bus, JOBS.name)
        self._behind: int | None = None
        self._wake = asyncio.Event()
        self.ready = asyncio.Event()
        self._appends: set[asyncio.Task[None]] = set()

    def tasks(self) -> "list[asyncio.Task[None]]":
        """Start everything; each task runs until cancelled."""
        return [
            asyncio.create_task(self.fleet.run(), name="fleet"),
            asyncio.create_task(self.models.run(), name="models"),
            asyncio.create_task(self._follow(), name="jobs"),
            asyncio.create_task(self._plan_when_woken(), name="plan"),
        ]

    async def close(self) -> None:
        """Wait for the appends in flight."""
        await asyncio.gather(*self._appends, return_exceptions=True)
        await self._store.close()

    @property
    def caught_up(self) -> bool:
        """True once the log, the fleet and the models have been read, and for as long as the fold keeps up."""
        read = self._behind is not None and self.fleet.ready.is_set() and self.models.ready.is_set()
        return read and (self._behind or 0) <= BEHIND_MESSAGES

    def _changed(self, _: str) -> None:
        self._wake.set()

    async def _follow(self) -> None:
        async for batch in self._jobs.batches():
            self._fold(batch)
            if batch.pending == 0 or self._behind is not None:  # the first plan waits for the whole log
                self._behind = batch.pending
                self._wake.set()

    def _fold(self, batch: Batch) -> None:
        for message in batch.messages:
            error = self.snapshot.apply(message.subject, message.headers, message.data, message.sequence)
            if error is not None:
                logger.warning("skipping at sequence {}: {}", message.sequence, error)
        LAG.labels(JOBS.name).set(batch.pending)
        metrics.OPEN.set(len(self.snapshot.jobs))

    async def _plan_when_woken(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self.caught_up:
                self.ready.set()
                self._plan()

    def _plan(self) -> None:
        now, started = clock.now(), clock.monotonic_seconds()
        self.snapshot.wake(now)
        if len(self.snapshot.queue):
            found = plan(self._loads(), self.snapshot, self.models.models, now, self._settings.plan_policy)
            for assignment in found:
                self._promise(assignment)
            if len(found) == self._settings.scheduler_assignments_max:
                self._wake.set()  # there may be room for more
            metrics.PLAN_SECONDS.observe(clock.monotonic_seconds() - started)
        metrics.QUEUED.set(len(self.snapshot.queue))

    def _loads(self) -> list[RunnerLoad]:
        loads = []
        for runner_id, beat in self.fleet.runners.items():
            held = self.snapshot.held(runner_id)
            loads.append(RunnerLoad(beat, sum(job.held_bytes for job in held.values()), len(held)))
        return loads

    def _promise(self, assignment: Assignment) -> None:
        """Count on an assignment from now on, and append it: appends of one plan go out together."""
        self.snapshot.promise(
            assignment.job.job_id, assignment.runner_id, assignment.instance_id, assignment.required_bytes
        )
        task = asyncio.create_task(self._append(assignment), name="assign")
        self._appends.add(task)
        task.add_done_callback(self._appends.discard)

    async def _append(self, assignment: Assignment) -> None:
        job = assignment.job
        event = assignment.event(clock.now())
        try:
            await self._store.append(job.job_id, [event], expected=job.version, traceparent=job.wanted.traceparent)
        except VersionConflict:  # somebody was first; the log will tell who and what
            metrics.ASSIGNMENTS.labels("conflict").inc()
        except DependencyAway as error:
            metrics.ASSIGNMENTS.labels("away").inc()
            logger.warning("could not assign job {}: {}", job.job_id, error)
            await asyncio.sleep(AWAY_PAUSE_SECONDS)
            self.snapshot.withdraw(job.job_id, job.version)
            self._wake.set()
        else:
            metrics.ASSIGNMENTS.labels("assigned").inc()
            metrics.WAIT_SECONDS.observe(assignment.decision.waited_seconds)
            logger.info("job {} attempt {} assigned to {}", job.job_id, event.attempt, event.runner_id)
