"""Python's cycle collector, told that a fold makes hundreds of thousands of values and no cycles."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Python's default looks for cycles after every 700 new containers, each time through the batch being folded: that
# was more than half the cost of decoding (40 against 14 us an event, measured with 40,000 events in hand). Values
# without cycles are freed by their reference counts, whatever this number is.
CONTAINERS_BETWEEN_LOOKS = 200_000


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """While the block runs, look for cycles seldom."""
    before = gc.get_threshold()
    gc.set_threshold(CONTAINERS_BETWEEN_LOOKS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
