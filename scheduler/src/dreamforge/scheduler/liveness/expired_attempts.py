"""Which attempts have lost their runner or were never started: decided from the fold and from liveness. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.jobs.attempts import FailAttempt
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.scheduler.liveness.liveness import Liveness
from dreamforge.scheduler.planning.open_job import OpenJob, Stage
from dreamforge.scheduler.planning.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Patience:
    """How long until an attempt is failed, in seconds; `settings.py` gives each value and its reason."""

    retry: RetryPolicy
    lost_grace_seconds: float
    recent_grace_seconds: float
    startup_grace_seconds: float
    start_deadline_seconds: float


@dataclass(frozen=True, slots=True)
class ExpiredAttempt:
    """An attempt to fail now."""

    job_id: str
    command: FailAttempt


@dataclass(frozen=True, slots=True)
class ExpiredAttempts:
    """What to fail now, and when the next attempt expires unless something changes (None: none does)."""

    now: tuple[ExpiredAttempt, ...]
    next_at: datetime | None


def expired_attempts(snapshot: Snapshot, liveness: Liveness, now: datetime, patience: Patience) -> ExpiredAttempts:
    """Check every attempt that is on a runner. Promised ones are left out: the log does not have them yet."""
    expired: list[ExpiredAttempt] = []
    later: list[datetime] = []
    for runner_id in snapshot.runners_in_use:
        for job in snapshot.placed_on(runner_id).values():
            expiry = _expiry(job, liveness, patience)
            if expiry is None:
                continue
            at, reason, message = expiry
            if at > now:
                later.append(at)
            else:
                command = FailAttempt(now, job.attempt, reason, True, message, patience.retry)
                expired.append(ExpiredAttempt(job.job_id, command))
    return ExpiredAttempts(tuple(expired), min(later, default=None))


def _expiry(job: OpenJob, liveness: Liveness, patience: Patience) -> tuple[datetime, FailureReason, str] | None:
    """When an attempt expires, the reason and its text; None: never, unless something changes."""
    if job.since is None or job.stage is Stage.PROMISED:
        return None
    present = liveness.present.get(job.runner_id)
    if present == job.instance_id:
        if job.stage is not Stage.ASSIGNED:
            return None
        seconds = patience.start_deadline_seconds
        message = f"runner {job.runner_id} did not start it within {seconds:g} s"
        return job.since + timedelta(seconds=seconds), FailureReason.START_DEADLINE, message
    recent = job.since + timedelta(seconds=patience.recent_grace_seconds)
    if present is not None:
        return recent, FailureReason.RUNNER_LOST, f"runner {job.runner_id} was restarted"
    lost_at = max(recent, _lost_at(job.runner_id, liveness, patience))
    return lost_at, FailureReason.RUNNER_LOST, f"runner {job.runner_id} is silent"


def _lost_at(runner_id: str, liveness: Liveness, patience: Patience) -> datetime:
    gone = liveness.gone.get(runner_id)
    if gone is not None:
        return gone + timedelta(seconds=patience.lost_grace_seconds)
    return liveness.watching_since + timedelta(seconds=patience.startup_grace_seconds)
