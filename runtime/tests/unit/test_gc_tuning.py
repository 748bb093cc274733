"""A service searches for cycles seldom, never through what was there before, and leaves Python as it found it."""

import gc
import subprocess
import sys

from dreamforge.runtime.service.gc_tuning import gc_of_a_service

ALONE = """
import gc
from dreamforge.runtime.service.gc_tuning import gc_of_a_service
with gc_of_a_service(12_345):
    inside = gc.get_freeze_count()
print(inside, gc.get_freeze_count())
"""


def test_while_a_service_runs() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with gc_of_a_service(12_345):
        assert gc.get_threshold() == (12_345, *before[1:])
        assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() >= frozen > 0  # the plugin of the tests had left out what was there


def test_a_process_that_had_left_nothing_out_goes_through_everything_again() -> None:
    inside, after = subprocess.check_output([sys.executable, "-c", ALONE], text=True).split()
    assert int(inside) > 1_000
    assert int(after) == 0


def test_imports_are_left_out_of_every_search() -> None:
    program = """
import gc
from dreamforge.runtime.service.gc_tuning import leave_out_imports
before = gc.get_stats()[2]["collections"]
with leave_out_imports():
    import asyncio, email.message, http.client, sqlalchemy
print(gc.get_stats()[2]["collections"] - before, gc.get_freeze_count(), gc.isenabled())
"""
    searches, left_out, on = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert (searches, int(left_out) > 50_000, on) == ("0", True, "True")
