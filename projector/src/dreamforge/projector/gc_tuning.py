"""Settings of Python's cycle collector for a process that makes hundreds of thousands of values and no cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Python's default searches for cycles after every 700 new containers, each time through the batch being folded: that
# was more than half the cost of decoding (40 against 14 us an event, measured with 40,000 events in memory). Values
# without cycles are freed by their reference counts, whatever this number is.
ALLOCATIONS_BETWEEN_COLLECTIONS = 200_000


@contextmanager
def infrequent_gc() -> Iterator[None]:
    """While the block runs, search for cycles rarely."""
    before = gc.get_threshold()
    gc.set_threshold(ALLOCATIONS_BETWEEN_COLLECTIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
