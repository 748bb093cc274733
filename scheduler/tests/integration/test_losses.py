"""Runners die, restart as a new instance, or never start their assignment: the job goes to another runner."""

import asyncio

from dreamforge.contracts.events import AttemptFailed, FailureReason, JobFailed
from dreamforge.contracts.jobs.decisions import FailAttempt
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.request.render_request import Deadlines
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.testing import eventually

QUICK = {"retry": {"base_seconds": 0.2}}


def failures(loaded):
    return [(e.event.attempt, e.event.reason) for e in loaded.history if isinstance(e.event, AttemptFailed)]


async def test_a_killed_runners_job_runs_elsewhere(forge, capsys):
    await forge.scheduler(**QUICK)
    dead = await forge.runner("gpu-1", behaviour="hold")
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "running")
    alive = await forge.runner("gpu-2")
    clock = asyncio.get_running_loop().time
    killed = clock()
    await dead.kill()
    await eventually(lambda: job_id in alive.job_ids, 15)
    with capsys.disabled():
        print(f"\nrunner killed -> job elsewhere: {clock() - killed:.2f} s")
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "succeeded")
    assert failures(await forge.store.load(job_id)) == [(1, FailureReason.RUNNER_LOST)]


async def test_a_lost_runner_is_recorded_once(forge):
    await forge.scheduler(**QUICK)
    runner = await forge.runner("gpu-1")
    await runner.register()
    await runner.kill()

    async def words():
        stored = await direct_get.last_of_each(forge.bus, "FLEET", "forge.runners.gpu-1.>")
        return [message.subject.rsplit(".", 1)[-1] for message in stored]

    await eventually(words, 15, until=lambda said: said == ["registered", "lost"])


async def test_a_runner_lost_while_no_scheduler_ran_is_recorded_by_the_next(forge):
    runner = await forge.runner("gpu-1", behaviour="hold")
    await runner.register()
    first = await forge.scheduler(**QUICK)
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "running")
    await forge.stop(first)
    await runner.kill()
    await forge.gone("gpu-1")
    await forge.runner("gpu-2")
    await forge.scheduler(**QUICK, scheduler_startup_grace_seconds=0.5)
    await eventually(lambda: forge.status(job_id), 15, until=lambda status: status == "succeeded")
    stored = await direct_get.last_of_each(forge.bus, "FLEET", "forge.runners.gpu-1.>")
    assert [message.subject.rsplit(".", 1)[-1] for message in stored] == ["registered", "lost"]


async def test_the_attempts_of_a_restarted_runner_fail(forge):
    await forge.scheduler(**QUICK, scheduler_recent_grace_seconds=0.3)
    first = await forge.runner("gpu-1", behaviour="hold")
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "running")
    await first.kill()
    await forge.runner("gpu-1")  # the same runner, another instance
    await eventually(lambda: forge.status(job_id), 15, until=lambda status: status == "succeeded")
    assert failures(await forge.store.load(job_id)) == [(1, FailureReason.RUNNER_LOST)]


async def test_an_attempt_that_is_never_started_goes_to_another_runner(forge):
    await forge.scheduler(**QUICK, scheduler_start_deadline_seconds=0.5)
    lazy = await forge.runner("gpu-1", behaviour="ignore")
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "assigned")
    await eventually(lambda: lazy.taken)
    lazy.behaviour = "finish"
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "succeeded")
    assert failures(await forge.store.load(job_id)) == [(1, FailureReason.START_DEADLINE)]


async def test_a_failed_attempt_is_retried_when_it_is_due_and_not_before(forge):
    await forge.scheduler()
    runner = await forge.runner("gpu-1", behaviour="hold")
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "running")
    policy = RetryPolicy(base_seconds=0.7)
    at = runner.now()
    await forge.store.execute(job_id, FailAttempt(at, 1, FailureReason.CHILD_CRASHED, True, "boom", policy))
    await eventually(lambda: len(runner.taken), until=lambda taken: taken == 2)
    late_seconds = (runner.taken[1].at - at).total_seconds() - 0.7
    assert 0 <= late_seconds < 1


async def test_a_retry_that_became_due_while_no_scheduler_ran_is_planned_at_once(forge):
    first = await forge.scheduler()
    runner = await forge.runner("gpu-1", behaviour="hold")
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "running")
    await forge.stop(first)
    policy = RetryPolicy(base_seconds=0.01)
    await forge.store.execute(job_id, FailAttempt(runner.now(), 1, FailureReason.CHILD_CRASHED, True, "boom", policy))
    await forge.scheduler()
    await eventually(lambda: len(runner.taken), until=lambda taken: taken == 2)


async def test_a_job_past_its_start_deadline_is_failed(forge):
    await forge.scheduler()
    job_id = await forge.submit(deadlines=Deadlines(start_within_seconds=0.3))
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "failed")
    last = (await forge.store.load(job_id)).history[-1].event
    assert isinstance(last, JobFailed)
    assert last.reason is FailureReason.START_DEADLINE


async def test_a_run_past_its_deadline_is_failed(forge):
    await forge.scheduler()
    await forge.runner("gpu-1", behaviour="hold")
    job_id = await forge.submit(deadlines=Deadlines(run_within_seconds=0.3))
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "failed")
    last = (await forge.store.load(job_id)).history[-1].event
    assert last.reason is FailureReason.RUN_DEADLINE


async def test_nothing_happens_to_a_runner_whose_heartbeats_come_back_in_time(forge):
    await forge.scheduler(**QUICK)
    runner = await forge.runner("gpu-1", behaviour="hold")
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "running")
    await forge.drop_heartbeat("gpu-1")
    await runner.heartbeat()
    await asyncio.sleep(0.8)  # past the grace: nothing is to be seen, so nothing can be awaited
    assert failures(await forge.store.load(job_id)) == []


async def test_an_unreadable_message_changes_only_a_version(forge):
    scheduler = await forge.scheduler()
    job_id = await forge.submit()
    await forge.bus.js.publish(f"forge.jobs.{job_id}.1.succeeded", b"\xff not json")
    await forge.bus.js.publish("forge.jobs.x", b"")
    await forge.bus.js.publish(f"forge.jobs.{job_id}.0.nonsense", b"{}", headers={"ce-type": "nobody"})
    await forge.bus.js.publish(f"forge.jobs.{job_id}", b"beside the job's subjects: no version of it")
    await eventually(lambda: scheduler.snapshot.jobs[job_id].version, until=lambda version: version == 4)
    await forge.runner("gpu-1")
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "succeeded")
