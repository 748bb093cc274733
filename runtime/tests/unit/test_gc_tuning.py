"""A service searches for cycles seldom, never through what was there before, and leaves Python as it found it."""

import gc

from dreamforge.runtime.service.gc_tuning import gc_of_a_service


def test_while_a_service_runs() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with gc_of_a_service(12_345):
        assert gc.get_threshold() == (12_345, *before[1:])
        assert gc.get_freeze_count() > 10_000
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, frozen)
