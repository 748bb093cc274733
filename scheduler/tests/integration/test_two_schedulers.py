"""Two schedulers: one leads, the other takes over; and if both lead, no job is assigned twice."""

import asyncio
from collections import Counter

from dreamforge.contracts.events import AttemptFailed, JobAssigned
from dreamforge.contracts.log.envelope import unseal
from dreamforge.runtime.log.follow import Follower, last_sequence
from dreamforge.runtime.testing import eventually

JOBS = 300


async def history(forge):
    end = await last_sequence(forge.bus, "JOBS")
    found = []
    async for batch in Follower(forge.bus, "JOBS").batches():
        found += [unseal(m.subject, m.headers, m.data, sequence=m.sequence) for m in batch.messages]
        if found and found[-1].sequence >= end:
            break
    return found


async def test_two_that_both_decide_never_assign_a_job_twice(forge, capsys):
    """The lease is switched off on purpose: this is what holds when it fails."""
    schedulers = [await forge.scheduler(), await forge.scheduler()]
    for scheduler in schedulers:
        scheduler.decides = lambda scheduler=scheduler: scheduler.caught_up
    runners = [await forge.runner(f"gpu-{number}", slots=8) for number in range(3)]
    jobs = await asyncio.gather(*(forge.submit(tenant=f"t{number % 5}") for number in range(JOBS)))
    await eventually(lambda: sum(len(runner.job_ids) for runner in runners), 60, until=lambda taken: taken == JOBS)
    for job_id in jobs:
        await eventually(lambda: forge.status(job_id), until=lambda status: status == "succeeded")  # noqa: B023
    events = await history(forge)
    assigned = Counter(e.entity_id for e in events if isinstance(e.event, JobAssigned))
    sources = Counter(e.source for e in events if isinstance(e.event, JobAssigned))
    with capsys.disabled():
        print(f"\n{JOBS} jobs, assigned by the two schedulers: {sorted(sources.values())}")
    assert assigned == Counter(jobs)
    assert not [e for e in events if isinstance(e.event, AttemptFailed)]
    assert len(sources) == 2, "both took part, or this shows nothing"


async def test_one_leads_and_the_other_takes_over_when_it_is_silent(forge, capsys):
    first, second = await forge.scheduler(), await forge.scheduler()
    await eventually(lambda: first.leadership.leads or second.leadership.leads)
    leader, standby = (first, second) if first.leadership.leads else (second, first)
    assert not standby.leadership.leads
    clock = asyncio.get_running_loop().time
    await forge.runner("gpu-1", behaviour="ignore")
    await forge.kill(leader)
    killed = clock()
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "assigned")
    with capsys.disabled():
        print(f"\nleader killed -> job assigned by the other: {clock() - killed:.2f} s")
    assert standby.leadership.leads


async def test_a_leader_that_stops_hands_over_at_once(forge, capsys):
    first, second = await forge.scheduler(), await forge.scheduler()
    await eventually(lambda: first.leadership.leads or second.leadership.leads)
    leader, standby = (first, second) if first.leadership.leads else (second, first)
    clock = asyncio.get_running_loop().time
    stopped = clock()
    await forge.stop(leader)
    await eventually(lambda: standby.leadership.leads)
    with capsys.disabled():
        print(f"\nleader stopped -> the other leads: {clock() - stopped:.2f} s")
    assert clock() - stopped < 1


async def test_the_fleet_is_known_again_after_a_restart_of_the_broker(forge, nats_server):
    """Leases are in the broker's memory: after a restart buckets and leases are made again."""
    scheduler = await forge.scheduler()
    await forge.runner("gpu-1")
    await nats_server.kill()
    await nats_server.restart()
    await eventually(lambda: scheduler.leadership.leads, 30)
    job_id = await eventually(lambda: forge.try_submit(), 30)
    await eventually(lambda: forge.status(job_id), 30, until=lambda status: status == "succeeded")
