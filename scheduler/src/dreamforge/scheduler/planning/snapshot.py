"""The scheduler's fold of JOBS: open jobs only, indexed by what planning asks. No I/O, no clock.

A terminal event drops its job, so memory grows with the open jobs only. An unreadable message, and an event that every
fold refuses, change nothing but the version of their job, exactly as in EventStore.load.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from operator import itemgetter

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import (
    TERMINAL_EVENTS,
    ArtifactStored,
    CancelRequested,
    JobArchived,
    JobAssigned,
    JobErased,
    JobEvent,
    JobRequested,
    JobSucceeded,
    JobWarned,
)
from dreamforge.contracts.jobs.course import JobCourse, changed
from dreamforge.contracts.jobs.refusal import refusal
from dreamforge.contracts.log.envelope import unseal
from dreamforge.contracts.queue_control import hold_of
from dreamforge.contracts.tenants import UNCONFIGURED, TenantState
from dreamforge.scheduler.planning.calibration import KeptPromise
from dreamforge.scheduler.planning.fairness import Ageing
from dreamforge.scheduler.planning.open_job import (
    OpenJob,
    Stage,
    evolved,
    opened,
    promised,
    touched,
    withdrawn,
)
from dreamforge.scheduler.planning.placed_jobs import PlacedJobs
from dreamforge.scheduler.planning.queue import Queue

# These change nothing that planning reads, so their payload is not even parsed.
VERSION_ONLY = frozenset({ArtifactStored.TOKEN, CancelRequested.TOKEN, JobArchived.TOKEN, JobWarned.TOKEN})
NO_COURSE = JobCourse()
# Ids of the last jobs that ended, about a megabyte. A forged second request of an older one is planned once more, and
# every other fold refuses what comes of it.
OVER_KEPT = 10_000
KEPT_PROMISES_MAX = 4096


class Snapshot:
    """`jobs` by id, `queue` of those that could run now, `placed_on(runner)`, and `waiting()` for a retry."""

    def __init__(self, ageing: Ageing = Ageing()) -> None:
        self.jobs: dict[str, OpenJob] = {}
        self.queue = Queue(ageing)
        self.held_queues: Mapping[str, datetime] = {}
        self._tenants: Mapping[str, TenantState] = {}
        self._over: dict[str, None] = {}
        self._placed = PlacedJobs()
        self._waiting: list[tuple[datetime, str]] = []
        self._new_waits: dict[str, None] = {}
        self._deadlines: list[tuple[datetime, str]] = []
        self._kept: deque[KeptPromise] = deque(maxlen=KEPT_PROMISES_MAX)

    def placed_on(self, runner_id: str) -> Mapping[str, OpenJob]:
        """Jobs that are promised or assigned to a runner or run there, by id."""
        return self._placed.on(runner_id)

    @property
    def runners_in_use(self) -> tuple[str, ...]:
        """Runners with at least one such job, live or not."""
        return self._placed.runners

    def moved(self) -> list[str]:
        """Runners whose jobs have changed since the last call."""
        return self._placed.moved()

    def by_end(self, now: datetime) -> Iterator[tuple[float, str]]:
        """The jobs on runners that were promised an end: seconds between that and now, and the runner; least first."""
        return self._placed.by_end(now)

    def apply(self, subject: str, headers: Mapping[str, str], data: bytes, sequence: int) -> MalformedEvent | None:
        """Fold one message. Returns the error of one that cannot be read or is refused, which the fold has skipped."""
        parts = subject.split(".", 5)
        job = self.jobs.get(parts[2]) if len(parts) > 3 else None  # forge.jobs.J itself is not in forge.jobs.J.>
        if len(parts) > 4 and parts[4] in VERSION_ONLY:
            self._put(job, touched(job, sequence) if job else None)
            return None
        try:
            recorded = unseal(subject, headers, data, sequence=sequence)
        except MalformedEvent as error:
            self._put(job, touched(job, sequence) if job else None)
            return error
        if not isinstance(recorded.event, JobEvent):
            return None
        reason = self.observe(recorded.entity_id, recorded.event, sequence, recorded.traceparent)
        return None if reason is None else MalformedEvent(subject=subject, reason=reason)

    def observe(self, job_id: str, event: JobEvent, sequence: int, traceparent: str = "") -> str | None:
        """Fold one event. Returns why it is refused, if it is; events of jobs that are over have no effect here."""
        job = self.jobs.get(job_id)
        if job is None:
            if job_id in self._over:
                return "the job is over"
            if isinstance(event, JobRequested) and refusal(NO_COURSE, event) is None:
                self._put(None, opened(job_id, event, sequence, traceparent))
            return None
        if (reason := refusal(job, event)) is not None:
            self._put(job, touched(job, sequence))
            return reason
        if isinstance(event, (*TERMINAL_EVENTS, JobErased)):
            self._keep_promise(job, event)
            self._put(job, None)
            self._over[job_id] = None
            if len(self._over) > OVER_KEPT:
                del self._over[next(iter(self._over))]
            return None
        if isinstance(event, JobAssigned) and not job.promised:
            weight = self._tenants.get(job.demand.tenant, UNCONFIGURED).weight_at(event.at)
            self.queue.charge(job.demand.tenant, job.demand.work, weight)
        self._put(job, evolved(job, event, sequence))
        return None

    def promise(
        self, job_id: str, runner_id: str, instance_id: str, reserved_bytes: int, ends_at: datetime | None = None
    ) -> None:
        """Remember a planned assignment until the log has its event. Errors: KeyError unless the job is queued."""
        job = self.jobs[job_id]
        self.queue.charge(job.demand.tenant, job.demand.work)
        self._put(job, promised(job, runner_id, instance_id, reserved_bytes, ends_at))

    def withdraw(self, job_id: str, version: int) -> None:
        """Undo a promise whose append failed; does nothing if the job's version has changed since."""
        job = self.jobs.get(job_id)
        if job is not None and job.promised and job.version == version:
            self._put(job, withdrawn(job))

    def restore(self, job: OpenJob) -> None:
        """Put a captured job into the fold."""
        self._put(self.jobs.get(job.job_id), job)

    def drop(self, job_id: str) -> None:
        """Forget a job that the log shows to be finished."""
        self._put(self.jobs.get(job_id), None)

    def wake(self, now: datetime) -> int:
        """Queue the jobs whose retry is due; returns their number."""
        due = self._waiting[: bisect_right(self._waiting, now, key=itemgetter(0))]
        for _, job_id in due:
            job = self.jobs[job_id]
            self._put(job, changed(job, due=True))
        return len(due)

    def waiting(self) -> list[OpenJob]:
        """Jobs whose retry is in the future, soonest first."""
        return [self.jobs[job_id] for _, job_id in self._waiting]

    def new_waits(self) -> list[OpenJob]:
        """Jobs that were added to `waiting` since the last call."""
        found = [self.jobs[job_id] for job_id in self._new_waits]
        self._new_waits.clear()
        return found

    def kept_promises(self) -> list[KeptPromise]:
        """Attempts that succeeded since the last call, of those that were promised when they end."""
        found = list(self._kept)
        self._kept.clear()
        return found

    @contextmanager
    def with_jobs(self, jobs: Iterable[OpenJob]) -> Iterator[None]:
        """As long as this runs there are more jobs: to see where they would be. Nothing may be folded meanwhile."""
        added = tuple(jobs)
        for job in added:
            self._put(None, job)
        try:
            yield
        finally:
            for job in added:
                self.drop(job.job_id)

    def overdue(self, now: datetime) -> list[str]:
        """Jobs that have missed a deadline of their owner."""
        return [job_id for _, job_id in self._deadlines[: bisect_right(self._deadlines, now, key=itemgetter(0))]]

    @property
    def next_deadline(self) -> datetime | None:
        """The soonest deadline of any open job."""
        return self._deadlines[0][0] if self._deadlines else None

    def hold_queues(self, held: Mapping[str, datetime]) -> None:
        """Plan no job of these queues from now on; `held` is since when, by scope (see contracts.queue_control)."""
        queued = [job for job in self.jobs.values() if job.stage is Stage.QUEUED]
        before = {job.job_id for job in queued if self._served(job)}
        self.held_queues = dict(held)
        for job in queued:
            served = self._served(job)
            if served and job.job_id not in before:
                self.queue.add(job)
            elif not served and job.job_id in before:
                self.queue.remove(job)

    def configure_tenants(self, tenants: Mapping[str, TenantState]) -> None:
        """Plan with these weights from now on; what was assigned before counts with those of its time."""
        self._tenants = dict(tenants)
        self.queue.weights = {tenant: state.weight for tenant, state in tenants.items()}

    def _keep_promise(self, job: OpenJob, event: JobEvent) -> None:
        if isinstance(event, JobSucceeded) and job.ends_at is not None and job.assigned_at is not None:
            promised, real = ((end - job.assigned_at).total_seconds() for end in (job.ends_at, event.at))
            self._kept.append(KeptPromise(job.runner_id, promised, real))

    def _served(self, job: OpenJob) -> bool:
        return not self.held_queues or hold_of(job.demand.tenant, self.held_queues) is None

    def _put(self, old: OpenJob | None, new: OpenJob | None) -> None:
        if old is not None and new is not None and _same_place(old, new):
            self.jobs[new.job_id] = new
            self._placed.put(new)
            return
        if old is not None:
            self._unindex(old)
        if new is not None:
            self.jobs[new.job_id] = new
            self._index(new)
        elif old is not None:
            del self.jobs[old.job_id]

    def _index(self, job: OpenJob) -> None:
        deadline, stage = job.deadline, job.stage
        if deadline is not None:
            insort(self._deadlines, (deadline, job.job_id))
        if stage is Stage.QUEUED:
            if self._served(job):
                self.queue.add(job)
        elif stage is Stage.WAITING and job.retry_at is not None:
            insort(self._waiting, (job.retry_at, job.job_id))
            self._new_waits[job.job_id] = None
        elif job.on_runner:
            self._placed.put(job)

    def _unindex(self, job: OpenJob) -> None:
        deadline, stage = job.deadline, job.stage
        if deadline is not None:
            del self._deadlines[bisect_left(self._deadlines, (deadline, job.job_id))]
        if stage is Stage.QUEUED:
            if self._served(job):
                self.queue.remove(job)
        elif stage is Stage.WAITING and job.retry_at is not None:
            del self._waiting[bisect_left(self._waiting, (job.retry_at, job.job_id))]
            self._new_waits.pop(job.job_id, None)
        elif job.on_runner:
            self._placed.remove(job)


def _same_place(old: OpenJob, new: OpenJob) -> bool:
    """Whether a job stays on its runner with its deadline, as after most events: then no index changes."""
    stays = old.on_runner and new.on_runner and old.runner_id == new.runner_id
    return stays and old.deadline == new.deadline
