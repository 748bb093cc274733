"""Settings of Python's cycle collector for processes that make many values and few cycles.

Python's default searches for cycles after every 700 new containers, now and then through everything that is alive.
Values without cycles are freed by their reference counts, whatever these numbers are.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Of a service: searching took about 5 % of the gateway's time and of the runner's. What waits for it in cycles stays in
# memory as long, and may be the body of a request: far below what a batch is given.
SERVICE_ALLOCATIONS = 5_000
# While batches are folded, each search goes through the one at hand: that was more than half the cost of decoding (40
# against 14 us an event, measured with 40,000 events in memory).
BATCH_ALLOCATIONS = 200_000


@contextmanager
def leave_out_imports() -> Iterator[None]:
    """While the block imports, search for no cycles; after it, never through what it made, at the exit neither.

    Modules stay until the process ends, and a search finds next to nothing in them. Without any, the imports of a
    gateway and its exit take 1.8 s of a slow processor instead of 2.9, those of torch and diffusers 5.7 instead of 7.7,
    and where Python takes them apart at the exit 12.1. What was in cycles is some 2 % of their memory.
    Pydantic reads what each installed distribution says of itself, to find plugins: 17 ms, and we use none.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def infrequent_gc(allocations: int = BATCH_ALLOCATIONS) -> Iterator[None]:
    """While the block runs, search for cycles after so many new containers."""
    before = gc.get_threshold()
    gc.set_threshold(allocations, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def gc_of_a_service(allocations: int) -> Iterator[None]:
    """While the block runs, search less often, and never through what was made before: modules, classes, schemas.

    In a process that had left something out before, as those of tests do, that stays left out.
    """
    frozen = gc.get_freeze_count()
    gc.freeze()
    try:
        with infrequent_gc(allocations):
            yield
    finally:
        if not frozen:
            gc.unfreeze()


def leave_out_what_is_there() -> None:
    """Search for cycles in what lives now for the last time: after a fold has been read, which stays as it is.

    Its values are freed by their reference counts as before. Cycles that arise among them stay in memory, so it is for
    values without references to each other, and once.
    """
    gc.collect()
    gc.freeze()
