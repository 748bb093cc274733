"""The queue is always in order, without being sorted again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.placement import Needs
from dreamforge.scheduler.planning.fairness import Ageing
from dreamforge.scheduler.planning.open_job import JobDemand, OpenJob
from dreamforge.scheduler.planning.queue import Queue

NOON = datetime(2026, 1, 1, tzinfo=UTC)
JOBS = [
    OpenJob(
        job_id=f"job-{number:02}",
        version=1,
        status=Status.QUEUED,
        priority=number % 10,
        demand=JobDemand(
            f"t{number % 3}",
            NOON + timedelta(seconds=number * 37 % 100),
            Needs("m", 64 * (1 + number % 2), 64),
            10 + number,
            steps=1 + number % 5,
        ),
    )
    for number in range(20)
]
ACTIONS = st.lists(st.tuples(st.sampled_from(["add", "remove", "serve"]), st.integers(0, len(JOBS) - 1)), max_size=60)


@settings(max_examples=300)
@given(ACTIONS)
def test_the_order_holds_after_any_additions_and_removals(actions):
    queue, queued = Queue(), set()
    for action, number in actions:
        job = JOBS[number]
        if action == "add" and number not in queued:
            queue.add(job)
            queued.add(number)
        elif action != "add" and number in queued:
            if action == "serve":
                queue.charge(job.demand.tenant, job.demand.work)
            queue.remove(job)
            queued.discard(number)
        check(queue, [JOBS[n] for n in queued])


def check(queue, jobs):
    assert sorted(queue) == sorted(job.job_id for job in jobs)
    assert len(queue) == len(jobs)
    assert set(queue.shapes()) == {job.demand.shape for job in jobs}
    turns = queue.turns()
    assert turns == sorted(turns)
    assert {turn[2] for turn in turns} == {job.demand.tenant for job in jobs}
    for _, best, tenant in turns:
        own = [job for job in jobs if job.demand.tenant == tenant]
        assert best == min(queue.place_of(job) for job in own)
        for name, line in queue.lines(tenant).items():
            assert line == sorted(queue.place_of(job) for job in own if job.demand.line == name)
    for shape in queue.shapes():
        assert queue.best(shape) == min(queue.place_of(job) for job in jobs if job.demand.shape == shape)


@given(ACTIONS)
def test_tags_are_forgotten_when_no_tenant_competes(actions):
    queue, queued = Queue(), set()
    for action, number in actions:
        if action == "add" and number not in queued:
            queue.add(JOBS[number])
            queued.add(number)
        elif action == "serve" and number in queued:
            queue.charge(JOBS[number].demand.tenant, JOBS[number].demand.work)
    for number in queued:
        queue.remove(JOBS[number])
    for job in JOBS[:3]:
        queue.add(job)
    assert len({turn[0] for turn in queue.turns()}) == 1


@given(st.integers(0, 9), st.integers(0, 9), st.floats(0, 5000), st.floats(0, 5000), st.floats(0, 10_000))
def test_rank_orders_as_effective_priority_does_at_any_moment(one, two, age_one, age_two, later):
    ageing = Ageing()
    rank_one = ageing.rank(one, NOON - timedelta(seconds=age_one))
    rank_two = ageing.rank(two, NOON - timedelta(seconds=age_two))
    now_one = ageing.effective_priority(one, age_one + later)
    now_two = ageing.effective_priority(two, age_two + later)
    if abs(now_one - now_two) > 1e-6:
        assert (rank_one < rank_two) == (now_one > now_two)


def test_removing_a_job_that_is_not_queued_is_an_error():
    queue = Queue()
    queue.add(JOBS[0])
    with pytest.raises(KeyError):
        queue.remove(JOBS[3])
