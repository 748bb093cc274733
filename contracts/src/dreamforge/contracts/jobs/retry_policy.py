"""How often, and how late, a failed attempt is followed by another. Pure."""

from dataclasses import dataclass
from datetime import timedelta

from dreamforge.contracts.failure_reason import FailureReason

RUNNERS_FAULT = frozenset({FailureReason.RUNNER_LOST, FailureReason.RUNNER_RESTARTED, FailureReason.RUNNER_DRAINED})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how late a failed attempt is followed by another: base * 2**(n-1), capped."""

    max_attempts: int = 4
    base_seconds: float = 1.0
    cap_seconds: float = 60.0

    def delay(self, attempt: int) -> timedelta:
        """The wait after the given attempt (from 1).

        >>> RetryPolicy().delay(3).total_seconds()
        4.0
        """
        return timedelta(seconds=min(self.cap_seconds, self.base_seconds * 2 ** min(attempt - 1, 30)))

    def delay_after(self, reason: FailureReason, attempt: int) -> timedelta:
        """The wait after an attempt that failed for `reason`: none after the first one that its runner is to blame
        for, since another runner can take the job at once; a job that takes runners down with it waits longer.

        >>> RetryPolicy().delay_after(FailureReason.RUNNER_LOST, 1).total_seconds()
        0.0
        """
        if reason not in RUNNERS_FAULT:
            return self.delay(attempt)
        return self.delay(attempt - 1) if attempt > 1 else timedelta(0)
