"""The one place that reads a clock. Everything else gets the time as an argument."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The wall clock, UTC, for `at` fields and logs."""
    return datetime.now(UTC)


def monotonic_seconds() -> float:
    """A clock that never goes back, for durations and time-outs."""
    return time.monotonic()
