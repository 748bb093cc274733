"""Keeps what time takes: attempts whose runner is gone, jobs past their deadline, runners that left unsaid.

It decides nothing itself (leases.py and contracts.commands do) and is idle unless this scheduler decides.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from loguru import logger

from dreamforge.contracts.errors import Conflict, DependencyAway, NotFound
from dreamforge.contracts.events import AttemptFailed
from dreamforge.contracts.fleet import LEASE_SECONDS
from dreamforge.contracts.jobs.decisions import Command, Expire
from dreamforge.contracts.log import subjects
from dreamforge.contracts.log.streams import RUNNERS_BUCKET
from dreamforge.runtime import clock
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.views import FleetView
from dreamforge.runtime.service.background import Alarm, BackgroundTasks
from dreamforge.scheduler import metrics
from dreamforge.scheduler.liveness import lost_runners
from dreamforge.scheduler.liveness.leases import lapsed
from dreamforge.scheduler.liveness.liveness import Attendance
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.settings import SchedulerSettings

# Before something that could not be done, or that the log has yet to confirm, is looked at again.
AGAIN = timedelta(seconds=1)


class Keeper:
    """`tend()` looks at everything that is due; between, an alarm is set for whatever is due next."""

    def __init__(
        self,
        bus: Bus,
        store: EventStore,
        snapshot: Snapshot,
        fleet: FleetView,
        settings: SchedulerSettings,
        decides: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._store = store
        self._snapshot = snapshot
        self._fleet = fleet
        self._settings = settings
        self._decides = decides
        self._idle = True
        self._busy: set[str] = set()
        self._roll_called = False
        self.attendance = Attendance(clock.now())
        self.background = BackgroundTasks()
        self.alarm = Alarm(self.tend)

    def resume(self) -> None:
        """This scheduler decides (again): whatever fell due while it did not is its business now."""
        if self._idle:
            self._idle = self._roll_called = False
            self.tend()

    def beat(self, runner_id: str) -> None:
        """A runner was heard."""
        if self.attendance.beat(self._fleet.runners[runner_id], clock.now()):
            self.tend()

    def left(self, runner_id: str) -> None:
        """A runner's lease ended."""
        self.attendance.left(runner_id, clock.now())
        self.tend()

    def tend(self) -> None:
        """Give up what is due now and set the alarm for what is due next."""
        if not self._decides():
            self._idle = True
            return
        now = clock.now()
        lapses = lapsed(self._snapshot, self.attendance, now, self._settings.patience)
        for lapse in lapses.now:
            self._settle(lapse.job_id, lapse.command)
        overdue = self._snapshot.overdue(now)
        for job_id in overdue:
            self._settle(job_id, Expire(now))
        self._call_roll(now)
        for runner_id in self.attendance.silent(now):
            self.attendance.excuse(runner_id, now)
            self.background.spawn(self._look(runner_id), f"look for {runner_id}")
        self.alarm.at(lapses.next_at)
        self.alarm.at(now + AGAIN if overdue or lapses.now else self._snapshot.next_deadline)
        self.alarm.at(self.attendance.next_silence)

    def _settle(self, job_id: str, command: Command) -> None:
        if job_id not in self._busy:
            self._busy.add(job_id)
            self.background.spawn(self._execute(job_id, command), f"settle {job_id}")

    async def _execute(self, job_id: str, command: Command) -> None:
        job = self._snapshot.jobs.get(job_id)
        try:
            trace = job.demand.traceparent if job else ""
            outcome = await self._store.execute(job_id, command, traceparent=trace)
        except (Conflict, NotFound):
            await self._compare(job_id)
        except DependencyAway as error:
            logger.warning("job {} could not be settled: {}", job_id, error)
        else:
            for event in outcome.events:
                logger.warning("job {} attempt {}: {}", job_id, event.attempt, event.TOKEN)
                if isinstance(event, AttemptFailed):
                    metrics.FAILED_ATTEMPTS.labels(str(event.reason)).inc()
        finally:
            self._busy.discard(job_id)

    async def _compare(self, job_id: str) -> None:
        """The log refused what the fold asked for. Mostly the fold is a moment behind; if the job is over, drop it."""
        try:
            loaded = await self._store.load(job_id)
        except DependencyAway:
            return
        if loaded.state.terminal:
            self._snapshot.drop(job_id)

    def _call_roll(self, now: datetime) -> None:
        """Say of each runner once that it is lost; after a start or a takeover, of all that are missing."""
        grace = timedelta(seconds=self._settings.scheduler_lost_grace_seconds)
        for runner_id, since in self.attendance.unsaid():
            if now < since + grace:
                self.alarm.at(since + grace)
                continue
            self.attendance.said(runner_id)
            self.background.spawn(self._declare(f"forge.runners.{runner_id}.>", since), f"lost {runner_id}")
        if not self._roll_called:
            begun = self.attendance.watching_since + timedelta(seconds=self._settings.scheduler_startup_grace_seconds)
            self._roll_called = now >= begun
            self.alarm.at(begun if not self._roll_called else None)
            if self._roll_called:
                self.background.spawn(self._declare(subjects.RUNNERS_ALL, now), "call the roll")

    async def _declare(self, subject_filter: str, since: datetime) -> None:
        now = clock.now()
        silent = LEASE_SECONDS + (now - since).total_seconds()
        present = self.attendance.present
        try:
            await lost_runners.declare_lost(
                self._bus, self._store, subject_filter, present, now=now, silent_seconds=silent
            )
        except DependencyAway as error:
            logger.warning("lost runners could not be written down: {}", error)
            self._roll_called = False
            self.alarm.at(now + AGAIN)

    async def _look(self, runner_id: str) -> None:
        """A runner is silent, but nobody saw its lease end: is its key still there?"""
        try:
            found = await direct_get.last_of_each(
                self._bus, f"KV_{RUNNERS_BUCKET}", f"$KV.{RUNNERS_BUCKET}.{runner_id}"
            )
        except DependencyAway:
            return
        if not found or not found[-1].data:
            self._fleet.runners.pop(runner_id, None)
            self.left(runner_id)
