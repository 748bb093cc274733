"""One open job as the scheduler keeps it: what placement needs, and no prompt. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from dreamforge.contracts.events import AttemptFailed, JobAssigned, JobEvent, JobRequested, JobStarted
from dreamforge.contracts.placement import Needs, needs_of
from dreamforge.contracts.request.render_request import Deadlines
from dreamforge.scheduler.planning.fairness import work_of


class Stage(StrEnum):
    """Where an open job stands. PROMISED is ours alone: planned, its append not yet back through the log."""

    QUEUED = "queued"
    WAITING = "waiting"
    PROMISED = "promised"
    ASSIGNED = "assigned"
    RUNNING = "running"


NO_DEADLINES = Deadlines()
HELD = frozenset({Stage.PROMISED, Stage.ASSIGNED, Stage.RUNNING})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for; never changes."""

    tenant: str
    priority: int
    requested_at: datetime
    shape: Needs
    preset: str
    work: int
    traceparent: str = ""
    start_by: datetime | None = None
    run_within_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class OpenJob:
    """`version` is what the next append must state. `since` is when a runner got it, or started it."""

    job_id: str
    version: int
    wanted: Wanted
    stage: Stage = Stage.QUEUED
    attempt: int = 0
    runner_id: str = ""
    instance_id: str = ""
    held_bytes: int = 0
    since: datetime | None = None
    retry_at: datetime | None = None

    @property
    def deadline(self) -> datetime | None:
        """When its owner gives up on it, as it stands (see contracts.commands.overdue)."""
        if self.stage is not Stage.RUNNING:
            return self.wanted.start_by
        return _later(self.since, self.wanted.run_within_seconds)


def wanted_of(event: JobRequested, traceparent: str = "") -> Wanted:
    """The part of a request that scheduling needs."""
    request, limits = event.request, event.deadlines or NO_DEADLINES
    return Wanted(
        event.tenant,
        event.priority,
        event.at,
        needs_of(request),
        request.preset,
        work_of(request),
        traceparent,
        _later(event.at, limits.start_within_seconds),
        limits.run_within_seconds,
    )


def _later(at: datetime | None, seconds: float | None) -> datetime | None:
    """None for what will not happen, which is also what lies beyond the calendar."""
    if at is None or seconds is None:
        return None
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        return None


def touched(job: OpenJob, sequence: int) -> OpenJob:
    """After an event that changes the version only. A promise was made on the version before: it is void."""
    stage = Stage.QUEUED if job.stage is Stage.PROMISED else job.stage
    return released(job, sequence, stage) if stage is Stage.QUEUED else replace(job, version=sequence)


def evolved(job: OpenJob, event: JobEvent, sequence: int) -> OpenJob:
    """After one more event that leaves the job open: the same story as contracts.job.evolve, in fewer words."""
    match event:
        case JobAssigned():
            return OpenJob(
                job.job_id,
                sequence,
                job.wanted,
                Stage.ASSIGNED,
                event.attempt,
                event.runner_id,
                event.instance_id,
                event.estimated_vram_bytes,
                event.at,
            )
        case JobStarted():
            return replace(job, version=sequence, stage=Stage.RUNNING, since=event.at)
        case AttemptFailed():
            waiting = Stage.QUEUED if event.retry_at is None else Stage.WAITING
            return replace(released(job, sequence, waiting), retry_at=event.retry_at)
        case JobRequested():
            return replace(released(job, sequence, Stage.QUEUED), wanted=wanted_of(event, job.wanted.traceparent))
        case _:
            return touched(job, sequence)


def released(job: OpenJob, version: int, stage: Stage) -> OpenJob:
    """Off its runner."""
    return OpenJob(job.job_id, version, job.wanted, stage, job.attempt)


def promised(job: OpenJob, runner_id: str, instance_id: str, held_bytes: int) -> OpenJob:
    """Held by a runner as far as planning goes, until the log says so or says otherwise."""
    return replace(job, stage=Stage.PROMISED, runner_id=runner_id, instance_id=instance_id, held_bytes=held_bytes)
