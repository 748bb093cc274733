"""One open job as the scheduler keeps it: its course, and what placement needs of its request, but no prompt. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dreamforge.contracts.events import AttemptFailed, Decision, FailureReason, JobAssigned, JobEvent, JobRequested
from dreamforge.contracts.jobs.course import JobCourse, Status, advance, changed, fields_after
from dreamforge.contracts.placement import Needs, needs_of
from dreamforge.contracts.request.batch_key import batch_key, go_together, text_bytes
from dreamforge.contracts.request.render_request import Deadlines


class Stage(StrEnum):
    """Where an open job is for planning.

    BLOCKED: its owner keeps it from being assigned. PROMISED: planned, its append not yet read from the log.
    """

    QUEUED = "queued"
    BLOCKED = "blocked"
    WAITING = "waiting"
    PROMISED = "promised"
    ASSIGNED = "assigned"
    RUNNING = "running"


NO_DEADLINES = Deadlines()
Line = tuple[Needs, int]
"""What the jobs of one line of a queue have in common: their shape, and within a factor of two the steps they take."""
ON_RUNNER = frozenset({Stage.PROMISED, Stage.ASSIGNED, Stage.RUNNING})


@dataclass(frozen=True, slots=True)
class JobDemand:
    """What was asked for; never changes. `shape` is what placement needs to know, `work` what the tenant is charged.

    Jobs of one `batch_key` can be rendered together; None: alone. Of some families their texts must be as long, too:
    `text_bytes` (see `contracts.request.batch_key`).
    """

    tenant: str
    requested_at: datetime
    shape: Needs
    work: int
    traceparent: str = ""
    start_by: datetime | None = None
    run_within_seconds: float | None = None
    images: int = 1
    batch_key: str | None = None
    steps: float = 0.0
    """Of one image, at the size of `shape` (see `RenderRequest.steps_at_full_size`)."""
    text_bytes: tuple[int, int] = (0, 0)

    def goes_with(self, other: "JobDemand", family: str) -> bool:
        """Whether the images of both are rendered in one run of their model, which is of this family."""
        if self.batch_key is None or self.batch_key != other.batch_key:
            return False
        return go_together(family, self.text_bytes, other.text_bytes)

    @property
    def line(self) -> Line:
        """Where it stands in its tenant's queue."""
        return self.shape, int(self.images * self.steps).bit_length()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenJob(JobCourse):
    """`version` is what the next append must state.

    `promised`: planned for `runner_id`, and not yet confirmed by the log. `due`: the wait for its retry is over.
    """

    job_id: str
    version: int
    demand: JobDemand
    promised: bool = False
    due: bool = False
    reserved_bytes: int = 0
    ends_at: datetime | None = None
    """When its runner is expected to have finished it; None: nothing measured says."""
    out_of_memory_on: frozenset[str] = frozenset()
    """Runners that had nothing left to try against a want of memory: others are asked first."""

    @property
    def stage(self) -> Stage:
        """Where it is for planning."""
        if self.promised:
            return Stage.PROMISED
        if self.status is Status.RUNNING:
            return Stage.RUNNING
        if self.status is Status.ASSIGNED:
            return Stage.ASSIGNED
        if not self.assignable:
            return Stage.BLOCKED
        return Stage.WAITING if self.retry_at is not None and not self.due else Stage.QUEUED

    @property
    def on_runner(self) -> bool:
        """Whether it is promised or assigned to a runner, or runs there: a stage in ON_RUNNER."""
        return self.promised or self.status is Status.ASSIGNED or self.status is Status.RUNNING

    @property
    def since(self) -> datetime | None:
        """When its runner got it, or started it."""
        return self.started_at if self.status is Status.RUNNING else self.assigned_at

    @property
    def deadline(self) -> datetime | None:
        """When it misses a deadline of its owner, if nothing changes (see contracts.jobs.owner.overdue)."""
        if self.status is not Status.RUNNING:
            return self.demand.start_by
        return _later(self.started_at, self.demand.run_within_seconds)


def demand_of(event: JobRequested, traceparent: str = "") -> JobDemand:
    """The part of a request that scheduling needs."""
    limits = event.deadlines or NO_DEADLINES
    return JobDemand(
        event.tenant,
        event.at,
        needs_of(event.request),
        event.request.pixel_steps,
        traceparent,
        _later(event.at, limits.start_within_seconds),
        limits.run_within_seconds,
        event.request.images,
        batch_key(event.request),
        event.request.steps_at_full_size,
        text_bytes(event.request),
    )


def _later(at: datetime | None, seconds: float | None) -> datetime | None:
    """The time plus a delay; None without one, or if the result is beyond the last date of the calendar."""
    if at is None or seconds is None:
        return None
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        return None


def opened(job_id: str, event: JobRequested, sequence: int, traceparent: str = "") -> OpenJob:
    """A job that was just requested."""
    return OpenJob(job_id=job_id, version=sequence, demand=demand_of(event, traceparent), **fields_after(event))


def evolved(job: OpenJob, event: JobEvent, sequence: int) -> OpenJob:
    """After one more event that leaves the job open. A promise was made on the version before it: it is void."""
    match event:
        case JobAssigned():
            given = {"reserved_bytes": event.estimated_vram_bytes, "ends_at": promised_end(event.decision, event.at)}
            return advance(job, event, version=sequence, promised=False, due=False, **given)
        case AttemptFailed():
            tried = job.out_of_memory_on
            if event.reason is FailureReason.OUT_OF_MEMORY:
                tried |= {event.runner_id}
            free = {"reserved_bytes": 0, "ends_at": None}
            return advance(job, event, version=sequence, promised=False, due=False, out_of_memory_on=tried, **free)
        case _:
            return advance(withdrawn(job), event, version=sequence)


def touched(job: OpenJob, sequence: int) -> OpenJob:
    """After a message that changes the version only."""
    return changed(withdrawn(job), version=sequence)


def promised_end(decision: Decision, at: datetime) -> datetime | None:
    """When a job is to end by a decision made at that time."""
    return _later(at, decision.promised_seconds)


def promised(
    job: OpenJob, runner_id: str, instance_id: str, reserved_bytes: int, ends_at: datetime | None = None
) -> OpenJob:
    """Planned for a runner, until the log confirms it or says otherwise."""
    where = {"runner_id": runner_id, "instance_id": instance_id}
    return changed(job, promised=True, reserved_bytes=reserved_bytes, ends_at=ends_at, **where)


def withdrawn(job: OpenJob) -> OpenJob:
    """Without its promise, if it has one."""
    if not job.promised:
        return job
    return changed(job, promised=False, runner_id="", instance_id="", reserved_bytes=0, ends_at=None)
