"""Whichever replica answers, a read sees what was written before it: a lagging one says no more than it knows."""

from collections.abc import Iterator

import pytest
from some_jobs import assign, finish, request, started

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import JobAssigned
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.decisions import RequestCancel, StartAttempt
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.log.subjects import job_filter
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log import direct_get, leader_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.testing.replica import Replica, lagging_replica


@pytest.fixture(autouse=True)
def replica() -> Iterator[Replica]:
    """In force before anything connects."""
    with lagging_replica() as replica:
        yield replica


async def test_a_job_is_read_whole_from_a_replica_that_has_only_its_beginning(
    store: EventStore, replica: Replica
) -> None:
    job_id = await started(store)
    whole = await store.load(job_id)
    replica.ends_at = 1
    assert await store.load(job_id) == whole


async def test_what_a_replica_does_not_know_yet_is_there(store: EventStore, replica: Replica) -> None:
    await started(store)
    replica.ends_at = 3
    job_id = await started(store)
    assert (await store.load(job_id)).state.status is Status.RUNNING
    assert (await store.execute(job_id, RequestCancel(clock.now()))).state.cancel_requested


async def test_a_decision_is_made_on_the_newest_state(store: EventStore, replica: Replica) -> None:
    job_id = await started(store)
    await store.execute(job_id, finish())
    replica.ends_at = 3
    outcome = await store.execute(job_id, RequestCancel(clock.now()))
    assert (outcome.events, outcome.state.status) == ((), Status.SUCCEEDED)


async def test_an_assignment_can_be_started_before_the_replica_knows_of_it(store: EventStore, replica: Replica) -> None:
    await started(store)
    replica.ends_at = 3
    job_id = ids.new_id()
    await store.execute(job_id, request(job_id))
    outcome = await store.execute(job_id, assign())
    assigned = outcome.events[0]
    assert isinstance(assigned, JobAssigned)
    known = await store.load_assigned(job_id, assigned, outcome.version)
    start = StartAttempt(clock.now(), 1, "r1", "i1")
    assert (await store.execute(job_id, start, known=known)).state.status is Status.RUNNING


async def test_however_far_a_replica_is_the_answer_is_the_same(bus: Bus, store: EventStore, replica: Replica) -> None:
    job_id, _ = await started(store), await started(store)
    await bus.js.publish(f"forge.jobs.{job_id}.1.started.r1", b"laid over")
    under = JOBS.name, job_filter(job_id)
    whole = await direct_get.last_of_each(bus, *under)
    assert [message.sequence for message in whole] == [1, 2, 7]
    for replica.ends_at in range(1, 8):
        assert await direct_get.last_of_each(bus, *under, covering=7) == whole


async def test_the_leader_says_what_is_there_and_what_is_not(bus: Bus, store: EventStore, replica: Replica) -> None:
    job_id = await started(store)
    found = await direct_get.one(bus, JOBS.name, 2)
    replica.ends_at = 1
    assert found is not None
    assert await direct_get.one(bus, JOBS.name, 2) == await leader_get.one(bus, JOBS.name, 2) == found
    assert await direct_get.one(bus, JOBS.name, 99) is None
    assert await leader_get.version(bus, JOBS.name, job_filter(job_id)) == 3
    assert await leader_get.version(bus, JOBS.name, job_filter("unknown")) == 0
    assert await direct_get.last_of_each(bus, JOBS.name, job_filter("unknown")) == []


async def test_no_answer_ends_before_a_known_sequence(bus: Bus, store: EventStore, replica: Replica) -> None:
    """A leader that was cut off ends earlier than others: then there is no answer, rather than one with a gap."""
    under = JOBS.name, job_filter(await started(store))
    newest = await last_sequence(bus, JOBS.name)
    assert len(await direct_get.last_of_each(bus, *under, covering=newest)) == 3
    with pytest.raises(DependencyAway, match="ends at 3 here"):
        await direct_get.last_of_each(bus, *under, covering=newest + 1)
