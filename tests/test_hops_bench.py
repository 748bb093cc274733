"""The pure parts of `bench.hops`: what it notes of events, and what its hops are."""

import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dreamforge.contracts.events import JobStarted

REPOSITORY = Path(__file__).parents[1]
sys.path.append(str(REPOSITORY))  # benchmarks belong to no distribution
from bench.hops import HOPS, Moments, hop_seconds  # noqa: E402

sys.path.remove(str(REPOSITORY))

SENT = datetime(2026, 1, 1, tzinfo=UTC)


def moments_of_a_job() -> dict[str, float]:
    """Each event is decided 2 ms after the one before, and seen 5 ms later."""
    sent = SENT.timestamp()
    at = {"sent": sent}
    for number, name in enumerate(("requested", "assigned"), 1):
        at |= {name: sent + 0.002 * number, f"{name} seen": sent + 0.002 * number + 0.005}
    moments = Moments({"a": at})
    started = JobStarted(at=SENT + timedelta(milliseconds=6), attempt=1, runner_id="r", instance_id="i")
    moments.note("a", started, sent + 0.011)
    return moments.of["a"]


def test_hops_from_decision_to_decision_and_to_the_last_read_add_up_to_the_whole() -> None:
    found = hop_seconds([moments_of_a_job()] * 2)
    assert list(found) == [name for name, _, _ in HOPS]
    parts = ("sent, requested decided", "requested decided, assigned decided", "assigned decided, started decided",
             "started decided, seen")  # fmt: skip
    assert all(len(each) == 2 for each in found.values())
    whole = found["sent, started seen"][0]
    assert math.isclose(sum(found[part][0] for part in parts), whole, abs_tol=1e-6)
    assert math.isclose(whole, 0.011, abs_tol=1e-6)


def test_a_job_of_which_an_event_is_missing_is_an_error() -> None:
    moments = moments_of_a_job()
    del moments["assigned"]
    with pytest.raises(KeyError, match="assigned"):
        hop_seconds([moments])
