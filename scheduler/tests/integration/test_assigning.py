"""From a request in the log to an assignment in the log, against a real JetStream."""

from dreamforge.contracts.events import JobAssigned
from dreamforge.contracts.fleet import NextModel
from dreamforge.contracts.log.subjects import next_model_of
from dreamforge.runtime.testing import eventually


async def test_a_request_reaches_a_runner_and_ends(forge):
    await forge.scheduler()
    await forge.runner("gpu-1")
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "succeeded")


async def test_the_assignment_says_why(forge):
    await forge.scheduler()
    await forge.runner("gpu-1", behaviour="ignore")
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "assigned")
    assigned = (await forge.store.load(job_id)).history[-1].event
    assert isinstance(assigned, JobAssigned)
    assert assigned.estimated_vram_bytes == assigned.decision.required_bytes == 100
    assert [candidate.runner_id for candidate in assigned.decision.candidates] == ["gpu-1"]


async def test_a_job_waits_for_a_runner_and_goes_as_soon_as_one_comes(forge):
    await forge.scheduler()
    job_id = await forge.submit()
    assert await forge.status(job_id) == "queued"
    await forge.runner("gpu-1")
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "succeeded")


async def test_a_runner_never_gets_more_than_its_slots(forge):
    await forge.scheduler()
    runner = await forge.runner("gpu-1", slots=3, behaviour="hold")
    jobs = [await forge.submit() for _ in range(8)]
    await eventually(lambda: len(runner.taken), until=lambda taken: taken == 3)
    scheduler = forge.schedulers[0][0]
    await eventually(lambda: len(scheduler.snapshot.queue), until=lambda queued: queued == 5)
    assert sorted([await forge.status(job) for job in jobs])[-3:] == ["running"] * 3


async def test_a_busy_runner_is_told_which_model_it_will_have_to_load(forge):
    heard = await forge.bus.nc.subscribe(next_model_of("gpu-1"))
    await forge.runner("gpu-1", behaviour="hold")
    await forge.scheduler()
    jobs = [await forge.submit() for _ in range(2)]
    await eventually(lambda: forge.status(jobs[0]), until=lambda status: status != "queued")
    assert NextModel.model_validate_json((await heard.next_msg(10)).data) == NextModel(model_id="tiny")
