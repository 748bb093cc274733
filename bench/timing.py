"""Durations and percentiles, as every benchmark measures them."""

import time


def clock() -> float:
    """Seconds of the monotonic clock, for durations."""
    return time.monotonic()


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all values do not exceed.

    >>> percentile([3.0, 1.0, 2.0, 4.0], 0.5)
    3.0
    """
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
