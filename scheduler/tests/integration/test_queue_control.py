"""Held jobs and held queues, against a real JetStream: nothing of them is assigned, and nothing is lost."""

from dreamforge.contracts.jobs.owner import ChangePriority, HoldJob, ReleaseJob
from dreamforge.contracts.queue_control import HoldQueue, ReleaseQueue, scope_of
from dreamforge.runtime import clock
from dreamforge.runtime.log.aggregate import QUEUE
from dreamforge.runtime.testing import eventually


async def ends(forge, job_id):
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "succeeded")


async def test_a_held_job_waits_for_its_release_also_over_a_restart(forge):
    first = await forge.scheduler()
    held = await forge.submit()
    await forge.store.execute(held, HoldJob(clock.now()))
    await forge.runner("gpu-1")
    await ends(forge, await forge.submit())
    await forge.stop(first)
    await forge.scheduler()
    await ends(forge, await forge.submit())
    assert await forge.status(held) == "queued"
    await forge.store.execute(held, ReleaseJob(clock.now()))
    await ends(forge, held)


async def test_a_held_queue_lets_other_tenants_pass_also_over_a_restart(forge):
    first = await forge.scheduler()
    await forge.store.handle(QUEUE, scope_of("a"), HoldQueue(clock.now()))
    await eventually(lambda: scope_of("a") in first.queues.held)
    held = await forge.submit(tenant="a")
    await forge.runner("gpu-1")
    await ends(forge, await forge.submit(tenant="b"))
    await forge.stop(first)
    await forge.scheduler()
    await ends(forge, await forge.submit(tenant="b"))
    assert await forge.status(held) == "queued"
    await forge.store.handle(QUEUE, scope_of("a"), ReleaseQueue(clock.now()))
    await ends(forge, held)


async def test_a_held_fleet_assigns_nothing_and_loses_nothing(forge):
    scheduler = await forge.scheduler()
    await forge.runner("gpu-1")
    await forge.store.handle(QUEUE, scope_of(None), HoldQueue(clock.now()))
    await eventually(lambda: bool(scheduler.queues.held))
    jobs = [await forge.submit(tenant=tenant) for tenant in ("a", "b", "c")]
    await eventually(lambda: set(jobs) <= set(scheduler.snapshot.jobs))
    assert len(scheduler.snapshot.queue) == 0
    await forge.store.handle(QUEUE, scope_of(None), ReleaseQueue(clock.now()))
    for job_id in jobs:
        await ends(forge, job_id)


async def test_a_new_priority_changes_who_is_next(forge):
    await forge.scheduler()
    low, high = await forge.submit(priority=1), await forge.submit(priority=2)
    await forge.store.execute(low, ChangePriority(clock.now(), 9))
    runner = await forge.runner("gpu-1", slots=1, behaviour="hold")
    await eventually(lambda: len(runner.taken), until=lambda taken: taken == 1)
    await eventually(lambda: forge.status(low), until=lambda status: status == "running")
    assert await forge.status(high) == "queued"
