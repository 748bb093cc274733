"""The laws of append, against a real JetStream: one winner, no half batches, a lost ack is no loss."""

import asyncio
from dataclasses import dataclass, field

import pytest
from nats.aio.msg import Msg
from some_jobs import REQUEST, assign, finish, request, started

from dreamforge.contracts.errors import DependencyAway, JobNotFound, StaleAttempt, VersionConflict
from dreamforge.contracts.events import JobAssigned, JobRequested
from dreamforge.contracts.installation_events import RunnerStopped
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.decisions import RequestCancel, StartAttempt
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import NEW_JOB, EventStore
from dreamforge.runtime.log.group_commit import BATCH_FROM_MESSAGES, SINGLES_IN_FLIGHT
from dreamforge.runtime.log.streams import ensure_streams


async def test_a_job_is_read_back_whole_and_in_order(store: EventStore) -> None:
    job_id = await started(store)
    outcome = await store.execute(job_id, finish())
    loaded = await store.load(job_id)
    assert loaded.state == outcome.state
    assert loaded.version == outcome.version
    tokens = [recorded.event.TOKEN for recorded in loaded.history]
    assert tokens == ["requested", "assigned", "started", "artifact", "artifact", "succeeded"]


async def test_a_job_with_more_subjects_than_one_answer_has_is_read_whole(bus: Bus, store: EventStore) -> None:
    job_id = await started(store)
    litter = [f"forge.jobs.{job_id}.1.litter.{number}" for number in range(direct_get.MAX_MESSAGES)]
    for subject in (f"forge.jobs.{job_id}.1.started", *litter[:-1]):
        await bus.nc.publish(subject, b"{}")
    last = (await bus.js.publish(litter[-1], b"{}")).seq
    loaded = await store.load(job_id)
    assert [recorded.event.TOKEN for recorded in loaded.history] == ["requested", "assigned", "started"]
    assert loaded.version == last
    assert (await store.execute(job_id, finish())).state.status is Status.SUCCEEDED


async def test_an_assigned_job_is_known_from_its_request_and_its_assignment(store: EventStore) -> None:
    job_id = ids.new_id()
    await store.execute(job_id, request(job_id))
    outcome = await store.execute(job_id, assign())
    assigned = outcome.events[0]
    assert isinstance(assigned, JobAssigned)
    quick, whole = await store.load_assigned(job_id, assigned, outcome.version), await store.load(job_id)
    assert (quick.state, quick.version) == (whole.state, whole.version)
    await store.execute(job_id, RequestCancel(clock.now()))
    stale = await store.load_assigned(job_id, assigned, outcome.version)
    with pytest.raises(StaleAttempt):
        await store.execute(job_id, StartAttempt(clock.now(), 1, "r1", "i1"), known=stale)


async def test_of_twenty_racing_writers_exactly_one_wins(bus: Bus, store: EventStore) -> None:
    job_id = ids.new_id()
    await store.execute(job_id, request(job_id))
    racers = [EventStore(bus, f"/dreamforge/racer/{number}") for number in range(20)]
    results = await asyncio.gather(
        *(racer.execute(job_id, assign(f"r{number}")) for number, racer in enumerate(racers)), return_exceptions=True
    )
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert all(isinstance(result, StaleAttempt) for result in results if isinstance(result, BaseException))
    assert [r.event.TOKEN for r in (await store.load(job_id)).history] == ["requested", "assigned"]


async def test_a_stale_version_is_refused_and_writes_nothing(store: EventStore) -> None:
    job_id = await started(store)
    before = await store.load(job_id)
    events = (await store.execute(job_id, RequestCancel(clock.now()))).events
    for stale in (before.version, 0):
        with pytest.raises(VersionConflict):
            await store.append(job_id, events, expected=stale)
    assert len((await store.load(job_id)).history) == len(before.history) + 1


async def test_a_stale_batch_writes_nothing_at_all(store: EventStore) -> None:
    job_id = await started(store)
    stale = await store.load(job_id)
    await store.execute(job_id, RequestCancel(clock.now()))
    with pytest.raises(VersionConflict):
        await store.append(job_id, finish().artifacts, expected=stale.version)
    tokens = [r.event.TOKEN for r in (await store.load(job_id)).history]
    assert "artifact" not in tokens


async def test_one_stale_append_does_not_spoil_the_group_it_waits_with(store: EventStore) -> None:
    stale = ids.new_id()
    await store.execute(stale, request(stale))
    fresh = [ids.new_id() for _ in range(40)]
    requested = (await store.load(stale)).history[0].event
    results = await asyncio.gather(
        *(store.append(job_id, [requested], expected=0) for job_id in [*fresh[:20], stale, *fresh[20:]]),
        return_exceptions=True,
    )
    assert [type(r) for r in results if isinstance(r, BaseException)] == [VersionConflict]
    assert len({r for r in results if isinstance(r, int)}) == 40
    for job_id in fresh:
        assert (await store.load(job_id)).state.status is Status.QUEUED


async def test_a_group_gives_each_append_its_own_sequence(store: EventStore) -> None:
    jobs = [ids.new_id() for _ in range(100)]
    outcomes = await asyncio.gather(*(store.execute(job, request(job), known=NEW_JOB) for job in jobs))
    for job_id, outcome in zip(jobs, outcomes, strict=True):
        assert (await store.load(job_id)).version == outcome.version


async def test_what_is_appended_in_one_turn_of_the_event_loop_is_one_group(bus: Bus, store: EventStore) -> None:
    jobs = [ids.new_id() for _ in range(BATCH_FROM_MESSAGES)]
    outcomes = await asyncio.gather(*(store.execute(job, request(job), known=NEW_JOB) for job in jobs))
    stored = [await bus.ask("$JS.API.DIRECT.GET.JOBS", b'{"seq":%d}' % outcome.version) for outcome in outcomes]
    batches = {(message.headers or {}).get("Nats-Batch-Id") for message in stored}
    assert len(batches) == 1
    assert None not in batches


async def test_closing_waits_for_what_was_queued_in_the_same_turn(store: EventStore) -> None:
    jobs = [ids.new_id() for _ in range(SINGLES_IN_FLIGHT + 2)]
    appends = [asyncio.create_task(store.execute(job, request(job), known=NEW_JOB)) for job in jobs]
    await asyncio.sleep(0)
    await store.close()
    assert [task.result().state.status for task in appends if task.done()] == [Status.QUEUED] * len(jobs)


async def test_the_same_request_twice_is_one_job(store: EventStore) -> None:
    job_id = ids.job_id_for("t", "key")
    first, second = await asyncio.gather(*(store.execute(job_id, request(job_id), known=NEW_JOB) for _ in range(2)))
    assert first.version == second.version
    assert sorted(len(outcome.events) for outcome in (first, second)) == [0, 1]


async def test_an_unknown_job_is_reported_with_its_id(store: EventStore) -> None:
    with pytest.raises(JobNotFound, match="unknown"):
        await store.execute("unknown", RequestCancel(clock.now()))


@dataclass(frozen=True, slots=True)
class ForgetfulBus(Bus):
    """Loses the server's answer to the next publishes: what it sent was done, or was not."""

    lose: list[bool] = field(default_factory=list)  # True: done, but the answer is lost; False: never sent

    async def ask(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> Msg:
        if subject.startswith("forge.") and self.lose:
            if self.lose.pop(0):
                await Bus.ask(self, subject, data, headers)
            raise DependencyAway(dependency="nats", reason="timeout")
        return await Bus.ask(self, subject, data, headers)


@pytest.mark.parametrize("batch", [False, True])
async def test_a_lost_ack_is_success_if_the_event_was_written(bus: Bus, store: EventStore, batch: bool) -> None:
    job_id = await started(store)
    forgetful = EventStore(ForgetfulBus(bus.nc, bus.js, lose=[True]), "/dreamforge/forgetful")
    outcome = await forgetful.execute(job_id, finish() if batch else RequestCancel(clock.now()))
    assert outcome.version == (await store.load(job_id)).version


async def test_a_lost_publish_is_an_error_and_can_be_repeated(bus: Bus, store: EventStore) -> None:
    job_id = await started(store)
    forgetful = EventStore(ForgetfulBus(bus.nc, bus.js, lose=[False]), "/dreamforge/forgetful")
    with pytest.raises(DependencyAway):
        await forgetful.execute(job_id, finish())
    assert (await forgetful.execute(job_id, finish())).state.status is Status.SUCCEEDED
    assert (await store.load(job_id)).state.status is Status.SUCCEEDED


async def test_an_unreadable_message_counts_as_version_and_stops_nothing(bus: Bus, store: EventStore) -> None:
    job_id = ids.new_id()
    await store.execute(job_id, request(job_id))
    rogue = await bus.js.publish(f"forge.jobs.{job_id}.9.rogue", b"\xff not ours")
    loaded = await store.load(job_id)
    assert (loaded.version, loaded.state.status) == (rogue.seq, Status.QUEUED)
    assert (await store.execute(job_id, RequestCancel(clock.now()))).state.status is Status.CANCELLED


async def test_unreadable_bytes_over_an_event_do_not_undo_it(bus: Bus, store: EventStore) -> None:
    """A direct get gives only the last message of a subject; the event before it is still valid."""
    job_id = await started(store)
    for tail in ("0.requested", "1.assigned.r1", "1.started"):
        rogue = await bus.js.publish(f"forge.jobs.{job_id}.{tail}", b"\xff not ours")
    loaded = await store.load(job_id)
    assert (loaded.version, loaded.state.status, loaded.state.attempt) == (rogue.seq, Status.RUNNING, 1)
    assert [recorded.sequence for recorded in loaded.history] == [1, 2, 3]
    assert (await store.execute(job_id, finish())).state.status is Status.SUCCEEDED


async def test_events_of_runners_have_versions_too(store: EventStore) -> None:
    stopped = RunnerStopped(at=clock.now(), instance_id="i1")
    await store.append("r1", [stopped], expected=0)
    with pytest.raises(VersionConflict):
        await store.append("r1", [stopped], expected=0)


async def test_acknowledged_events_survive_kill_9_of_the_server(nats_server: object, nats_url: str) -> None:
    from dreamforge.runtime.embedded import NatsServer

    assert isinstance(nats_server, NatsServer)
    bus = await bus_module.connect(nats_url, "test")
    await ensure_streams(bus)
    store = EventStore(bus, "/dreamforge/test")
    accepted: list[str] = []
    enough = asyncio.Event()

    async def submit() -> None:
        while True:
            job_id = ids.new_id()
            await store.append(job_id, [_requested()], expected=0)
            accepted.append(job_id)
            if len(accepted) == 500:
                enough.set()

    writers = [asyncio.create_task(submit()) for _ in range(8)]
    await enough.wait()
    await nats_server.kill()
    await asyncio.gather(*writers, return_exceptions=True)
    await nats_server.restart()
    fresh = await bus_module.connect(nats_url, "after")
    survivors = EventStore(fresh, "/dreamforge/test")
    for job_id in accepted:
        assert (await survivors.load(job_id)).state.status is Status.QUEUED
    await fresh.close()
    await bus.nc.close()


def _requested() -> JobRequested:
    return JobRequested(at=clock.now(), tenant="t", request=REQUEST)


async def test_jobs_that_are_requested_together_are_all_there_or_none(store: EventStore) -> None:
    taken, *_ = jobs = [ids.new_id() for _ in range(20)]
    commands = {job_id: request(job_id) for job_id in jobs}
    made = await asyncio.gather(*(store.request_together(commands) for _ in range(3)))
    assert sorted(len(outcome.events) for outcome in made) == [0, 0, 1]
    assert len({outcome.version for outcome in made}) == 1
    assert [(await store.load(job_id)).version for job_id in jobs][-1] == made[0].version
    new = {ids.new_id(): request("new") for _ in range(5)}
    with pytest.raises(VersionConflict):  # the last one is another's, so none is made
        await store.request_together(new | {taken: request(taken)})
    assert {(await store.load(job_id)).version for job_id in new} == {0}
