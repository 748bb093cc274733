"""Which attempts have lost their runner, or were never started: decided from the fold and who is there. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.jobs.decisions import FailAttempt
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.scheduler.liveness.liveness import Attendance
from dreamforge.scheduler.planning.open_job import OpenJob, Stage
from dreamforge.scheduler.planning.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Patience:
    """How long before an attempt is given up; settings.py says why each. Units: seconds."""

    retry: RetryPolicy
    lost_grace_seconds: float = 0.3
    recent_grace_seconds: float = 2.0
    startup_grace_seconds: float = 3.0
    start_deadline_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Lapse:
    """An attempt to fail now."""

    job_id: str
    command: FailAttempt


@dataclass(frozen=True, slots=True)
class Lapses:
    """What to fail now, and when to look again (None: not before something happens)."""

    now: tuple[Lapse, ...]
    next_at: datetime | None


def lapsed(snapshot: Snapshot, attendance: Attendance, now: datetime, patience: Patience) -> Lapses:
    """Look at every attempt that a runner holds; promises are not looked at, the log has yet to tell of them."""
    lapses: list[Lapse] = []
    later: list[datetime] = []
    for runner_id in snapshot.holders:
        for job in snapshot.held(runner_id).values():
            due = _due(job, attendance, patience)
            if due is None:
                continue
            at, reason, message = due
            if at > now:
                later.append(at)
            else:
                lapses.append(Lapse(job.job_id, FailAttempt(now, job.attempt, reason, True, message, patience.retry)))
    return Lapses(tuple(lapses), min(later, default=None))


def _due(job: OpenJob, attendance: Attendance, patience: Patience) -> tuple[datetime, FailureReason, str] | None:
    """When, why and how to say it; None for an attempt that may go on for as long as nothing changes."""
    if job.since is None or job.stage is Stage.PROMISED:
        return None
    there = attendance.present.get(job.runner_id)
    if there == job.instance_id:
        if job.stage is not Stage.ASSIGNED:
            return None
        seconds = patience.start_deadline_seconds
        message = f"runner {job.runner_id} did not start it within {seconds:g} s"
        return job.since + timedelta(seconds=seconds), FailureReason.START_DEADLINE, message
    recent = job.since + timedelta(seconds=patience.recent_grace_seconds)
    if there is not None:
        return recent, FailureReason.RUNNER_LOST, f"runner {job.runner_id} was restarted"
    return (
        max(recent, _given_up(job.runner_id, attendance, patience)),
        FailureReason.RUNNER_LOST,
        (f"runner {job.runner_id} is silent"),
    )


def _given_up(runner_id: str, attendance: Attendance, patience: Patience) -> datetime:
    gone = attendance.gone.get(runner_id)
    if gone is not None:
        return gone + timedelta(seconds=patience.lost_grace_seconds)
    return attendance.watching_since + timedelta(seconds=patience.startup_grace_seconds)
