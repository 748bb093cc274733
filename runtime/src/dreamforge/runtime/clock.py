"""The one place that reads a clock. Everything else gets the time as an argument.

Deadlines, waits and leases are decided by several machines, so they need one clock: that of the log. `now` is this
machine's clock, corrected by how far it is from the log's (`runtime.log.clock_skew` measures that).
"""

import time
from datetime import UTC, datetime, timedelta

_skew = timedelta(0)


def machine_now() -> datetime:
    """This machine's own clock, UTC."""
    return datetime.now(UTC)


def now() -> datetime:
    """The wall clock of the log, UTC, for `at` fields and deadlines."""
    return machine_now() - _skew


def skew_seconds() -> float:
    """How far this machine's clock is ahead of the log's, as far as it is corrected; 0 where they agree."""
    return _skew.total_seconds()


def correct(seconds: float) -> None:
    """From now on, this machine's clock is so far ahead of the log's; negative: behind it."""
    global _skew
    _skew = timedelta(seconds=seconds)


def monotonic_seconds() -> float:
    """A clock that never goes back, for durations and time-outs."""
    return time.monotonic()


def process_seconds() -> float:
    """Processor time of this process, all its threads: compares work, whatever else the machine does meanwhile."""
    return time.process_time()
