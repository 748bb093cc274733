"""Fails attempts of lost runners, expires jobs past their deadline, and records lost runners in the log.

It decides nothing itself (`expired_attempts` and `contracts.jobs` do), and does nothing while this scheduler does not
lead.
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
from dreamforge.scheduler.liveness.expired_attempts import Patience, expired_attempts
from dreamforge.scheduler.liveness.liveness import Liveness
from dreamforge.scheduler.liveness.lost_runners import record_lost_runners
from dreamforge.scheduler.planning.snapshot import Snapshot

# Until something that failed, or that the log has not confirmed yet, is checked again.
CHECK_AGAIN = timedelta(seconds=1)


class LostJobRescuer:
    """`check()` handles everything that is due and sets an alarm for what is due next."""

    def __init__(
        self,
        bus: Bus,
        store: EventStore,
        snapshot: Snapshot,
        fleet: FleetView,
        patience: Patience,
        decides: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._store = store
        self._snapshot = snapshot
        self._fleet = fleet
        self._patience = patience
        self._decides = decides
        self._idle = True
        self._busy: set[str] = set()
        self._whole_fleet_checked = False
        self.liveness = Liveness(clock.now())
        self.background = BackgroundTasks()
        self.alarm = Alarm(self.check)

    def resume(self) -> None:
        """This scheduler decides (again): handle what became due while it did not."""
        if self._idle:
            self._idle = self._whole_fleet_checked = False
            self.check()

    def heartbeat(self, runner_id: str) -> None:
        """A runner sent a heartbeat."""
        if self.liveness.heard(self._fleet.runners[runner_id], clock.now()):
            self.check()

    def lease_ended(self, runner_id: str) -> None:
        """A runner's lease ended."""
        self.liveness.lease_ended(runner_id, clock.now())
        self.check()

    def check(self) -> None:
        """Fail and expire what is due now, and set the alarm for what is due next."""
        if not self._decides():
            self._idle = True
            return
        now = clock.now()
        expired = expired_attempts(self._snapshot, self.liveness, now, self._patience)
        for attempt in expired.now:
            self._spawn_command(attempt.job_id, attempt.command)
        overdue = self._snapshot.overdue(now)
        for job_id in overdue:
            self._spawn_command(job_id, Expire(now))
        self._record_lost_runners(now)
        for runner_id in self.liveness.silent(now):
            self.liveness.postpone(runner_id, now)
            self.background.spawn(self._check_lease(runner_id), f"lease of {runner_id}")
        self.alarm.at(expired.next_at)
        self.alarm.at(now + CHECK_AGAIN if overdue or expired.now else self._snapshot.next_deadline)
        self.alarm.at(self.liveness.next_silence)

    def _spawn_command(self, job_id: str, command: Command) -> None:
        if job_id not in self._busy:
            self._busy.add(job_id)
            self.background.spawn(self._execute(job_id, command), f"{type(command).__name__} {job_id}")

    async def _execute(self, job_id: str, command: Command) -> None:
        job = self._snapshot.jobs.get(job_id)
        try:
            trace = job.demand.traceparent if job else ""
            outcome = await self._store.execute(job_id, command, traceparent=trace)
        except (Conflict, NotFound):
            await self._drop_if_finished(job_id)
        except DependencyAway as error:
            logger.warning("{} of job {} was not appended: {}", type(command).__name__, job_id, error)
        else:
            for event in outcome.events:
                logger.warning("job {} attempt {}: {}", job_id, event.attempt, event.TOKEN)
                if isinstance(event, AttemptFailed):
                    metrics.FAILED_ATTEMPTS.labels(str(event.reason)).inc()
        finally:
            self._busy.discard(job_id)

    async def _drop_if_finished(self, job_id: str) -> None:
        """The log refused a command. Mostly the fold is only behind; a job that is finished in the log is dropped."""
        try:
            loaded = await self._store.load(job_id)
        except DependencyAway:
            return
        if loaded.state.terminal:
            self._snapshot.drop(job_id)

    def _record_lost_runners(self, now: datetime) -> None:
        """Record each lost runner once; after a start or a takeover, all of the fleet's."""
        grace = timedelta(seconds=self._patience.lost_grace_seconds)
        for runner_id, since in self.liveness.unrecorded():
            if now < since + grace:
                self.alarm.at(since + grace)
                continue
            self.liveness.recorded(runner_id)
            self.background.spawn(self._record(subjects.runner_filter(runner_id), since), f"lost {runner_id}")
        if not self._whole_fleet_checked:
            grace_ends = self.liveness.watching_since + timedelta(seconds=self._patience.startup_grace_seconds)
            self._whole_fleet_checked = now >= grace_ends
            if self._whole_fleet_checked:
                self.background.spawn(self._record(subjects.RUNNERS_ALL, now), "lost runners of the fleet")
            else:
                self.alarm.at(grace_ends)

    async def _record(self, subject_filter: str, since: datetime) -> None:
        now = clock.now()
        silent = LEASE_SECONDS + (now - since).total_seconds()
        present = self.liveness.present
        try:
            await record_lost_runners(self._bus, self._store, subject_filter, present, now=now, silent_seconds=silent)
        except DependencyAway as error:
            logger.warning("lost runners were not recorded: {}", error)
            self._whole_fleet_checked = False
            self.alarm.at(now + CHECK_AGAIN)

    async def _check_lease(self, runner_id: str) -> None:
        """A runner is silent although no lease was seen to end: read whether it still has one."""
        try:
            found = await direct_get.last_of_each(
                self._bus, f"KV_{RUNNERS_BUCKET}", subjects.key_of(RUNNERS_BUCKET, runner_id)
            )
        except DependencyAway:
            return
        if not found or not found[-1].data:
            self._fleet.runners.pop(runner_id, None)
            self.lease_ended(runner_id)
