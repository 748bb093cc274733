"""Ranges of the log are folded beside each other: whatever is left, a job's events are folded in their order."""

from collections import defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.events import JobRequested, JobStarted
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.projector.folding.decode import Decoded
from dreamforge.projector.folding.project import Entry
from dreamforge.projector.maintenance.log_range import Ownership, ranges_of
from dreamforge.runtime.log.message import LogMessage

JOBS = ("a", "b", "c", "d")


def log_of(job_ids: list[str]) -> list[Decoded]:
    """A log with these jobs' events; the first one of each job is its request."""
    seen: set[str] = set()
    found = []
    for sequence, job_id in enumerate(job_ids, 1):
        event = (JobStarted if job_id in seen else JobRequested).model_construct()
        seen.add(job_id)
        recorded = Recorded(event, job_id, sequence, f"e{sequence}")
        found.append(Decoded(LogMessage("", {}, b"", sequence), Entry(recorded, "")))
    return found


def cut(items: list[Decoded], places: list[int]) -> list[list[Decoded]]:
    borders = sorted({0, len(items), *(place % (len(items) + 1) for place in places)})
    return [items[a:b] for a, b in pairwise(borders)]


def job_of(item: Decoded) -> str:
    assert item.entry is not None
    return item.entry.recorded.entity_id


@given(
    st.lists(st.sampled_from(JOBS), max_size=40),
    st.lists(st.integers(0, 40), max_size=3),
    st.lists(st.integers(0, 40), max_size=5),
    st.data(),
)
def test_every_event_is_folded_once_and_after_those_of_its_job_before_it(
    job_ids: list[str], ranges: list[int], batches: list[int], data: st.DataObject
) -> None:
    log = log_of(job_ids)
    folded: list[Decoded] = []
    left: list[Decoded] = []
    first, *others = cut(log, ranges) if log else [[]]
    for part in others:
        ownership, begun = Ownership(), set[str]()
        for batch in cut(part, batches):
            # What ended, or was not changed for long, is not known any more.
            known = data.draw(st.sets(st.sampled_from(sorted(begun)))) if begun else set()
            own, more = ownership.split(known, batch)
            begun |= {job_of(item) for item in own}
            folded += own
            left += more
    order = defaultdict(list)
    for item in [*first, *folded, *left]:
        order[job_of(item)].append(item.message.sequence)
    assert all(sequences == sorted(set(sequences)) for sequences in order.values())
    assert sum(map(len, order.values())) == len(log)


@given(st.integers(1, 10**9), st.integers(0, 10**6), st.integers(1, 16), st.integers(1, 10**5))
def test_ranges_are_the_whole_log_in_pieces_that_are_worth_a_process(
    first: int, messages: int, processes: int, messages_min: int
) -> None:
    last = first + messages - 1
    found = ranges_of(first, last, processes, messages_min)
    assert 1 <= len(found) <= processes
    assert (found[0].first, found[-1].last) == (first, last)
    assert all(before.last + 1 == after.first for before, after in pairwise(found))
    assert len(found) == 1 or min(each.last - each.first + 1 for each in found) >= messages_min
