"""Every call to a server, times every way in which it can go wrong: each ends in the same correct state.

    pytest tests/fault_matrix --collect-only -q        prints the matrix

A row is one call of one service, as it looks on the wire (see `fault_injection`). For each case the system renders one
job and cancels another while that call fails; afterwards the state must be as without the fault. The only effect that a
client may see is a 503 with Retry-After, where its own request was the one that failed.
"""

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from system_testkit.fault_injection import FaultCase
from system_testkit.in_process_system import InProcessSystem

from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.storage.objects import object_key
from dreamforge.runtime.testing import eventually

pytestmark = [pytest.mark.fault, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
JOB = r"forge\.jobs\.[0-9a-f-]+\.\d+\."
SUCCEEDED = ["requested", "assigned", "started", "artifact", "artifact", "succeeded"]
NOTHING_DONE, EVERY = frozenset((FaultCase.ERROR, FaultCase.TIMEOUT)), frozenset(FaultCase)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one service. A client gets a 503 in the cases of `refused_in`; `disconnect` is who reconnects."""

    name: str
    wire: str
    refused_in: frozenset[FaultCase] = frozenset()
    dependency: Literal["nats", "postgres", "s3"] = "nats"
    disconnect: str = ""


CALLS = (
    # Appending to the log. After a lost response the log is looked up, so only what was not done reaches the client.
    Call("gateway appends JobRequested", rf"^gateway\S* {JOB}requested$", NOTHING_DONE),
    Call("gateway appends CancelRequested", rf"^gateway\S* {JOB}cancel-requested$", NOTHING_DONE),
    Call("scheduler appends JobAssigned", rf"^scheduler {JOB}assigned\.r1$"),
    Call("runner appends JobStarted", rf"^gpu-runner\S* {JOB}started\.r1$"),
    Call("runner appends an image while it renders the next", rf"^gpu-runner\S* {JOB}artifact\.0\.r1$"),
    Call("runner appends its last image and success, inside the batch", rf"^gpu-runner\S* {JOB}artifact\.1\.r1$"),
    Call("runner appends its last image and success, the commit", rf"^gpu-runner\S* {JOB}succeeded\.r1$"),
    Call("runner appends JobCancelled", rf"^gpu-runner\S* {JOB}cancelled\.r1$"),
    # Reading the log.
    Call("gateway asks the leader for the version of a job", r"^gateway\S* \$JS\.API\.STREAM\.MSG\.GET\.JOBS$", EVERY),
    Call("gateway loads a job", r"^gateway\S* \$JS\.API\.DIRECT\.GET\.JOBS$", EVERY),
    Call("gateway reads the steps of a job", r"^gateway\S* \$JS\.API\.DIRECT\.GET\.STEPS$", EVERY),
    Call("runner reads the request of its assignment", r"^gpu-runner\S* \$JS\.API\.DIRECT\.GET\.JOBS\."),
    Call("scheduler follows the log", r"^scheduler \$JS\.API\.CONSUMER\.CREATE\.JOBS", disconnect="scheduler"),
    Call("projector follows the log", r"^projector\S* \$JS\.API\.CONSUMER\.CREATE\.JOBS", disconnect="projector"),
    Call("projector asks how long the log is", r"^projector\S* \$JS\.API\.STREAM\.INFO\.JOBS", disconnect="projector"),
    Call("projector pulls from the log", r"^projector\S* \$JS\.API\.CONSUMER\.MSG\.NEXT\.JOBS", disconnect="projector"),
    Call("gateway follows the log", r"^gateway\S* \$JS\.API\.CONSUMER\.CREATE\.JOBS", disconnect="gateway"),
    # Leases: heartbeats of the fleet, leadership of the schedulers.
    Call("runner puts its heartbeat", r"^gpu-runner\S* \$KV\.runners\.r1$"),
    Call(
        "scheduler reads the heartbeats", r"^scheduler \$JS\.API\.CONSUMER\.CREATE\.KV_runners", disconnect="scheduler"
    ),
    Call("gateway reads the heartbeats", r"^gateway\S* \$JS\.API\.CONSUMER\.CREATE\.KV_runners", disconnect="gateway"),
    Call("scheduler renews its leadership", r"^scheduler \$KV\.leaders\."),
    Call("gateway asks when a job will end", r"^gateway\S* forge\.forecasts$"),
    # Reading the tables.
    Call("gateway reads a job's row", "^dreamforge-gateway SELECT jobs.*WHERE jobs.job_id", EVERY, "postgres"),
    Call("gateway finds a image", "^dreamforge-gateway SELECT artifacts.sha256", EVERY, "postgres"),
    Call("gateway counts open jobs", "^dreamforge-gateway SELECT .*GROUP BY jobs.tenant"),
    # Writing the tables.
    Call("projector reads what it folds on", "^dreamforge-projector SELECT j.job_id"),
    Call("projector moves the checkpoint", "^dreamforge-projector UPDATE checkpoints SET"),
    Call("projector writes rows", '^dreamforge-projector INSERT INTO "jobs"'),
    Call("projector shows images", '^dreamforge-projector INSERT INTO "artifacts"'),
    Call("projector says how far it is", "^dreamforge-projector SELECT pg_notify"),
    Call("projector commits", "^dreamforge-projector COMMIT"),
    # Erasing.
    Call("projector looks for jobs to erase", "^dreamforge-erase SELECT job_id FROM jobs WHERE erase_at"),
    Call("projector looks for erased jobs to remove", "^dreamforge-erase SELECT sequence, job_id, type"),
    # Pictures.
    Call("runner puts a image", r"^PUT /\S+/images/"),
    Call("gateway looks for a image", r"^HEAD /\S+/images/", EVERY, "s3"),
    Call("gateway reads a image", r"^GET /\S+/images/", EVERY, "s3"),
    Call("gateway looks for an upload", r"^HEAD /\S+/uploads/", EVERY, "s3"),
    Call("gateway reads an upload", r"^GET /\S+/uploads/", EVERY, "s3"),
    Call("gateway puts an upload", r"^PUT /\S+/uploads/", EVERY, "s3"),
)


@pytest.mark.parametrize("case", FaultCase)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name.replace(" ", "-"))
async def test_every_call_ends_in_a_correct_state(system: InProcessSystem, call: Call, case: FaultCase) -> None:
    await eventually(system.ready, 30)
    objects_before = await system.collected()
    system.refusals.clear()

    with system.faults.inject(case, call.wire) as fault:
        if call.disconnect:
            system.faults.disconnect(call.disconnect)
            await eventually(lambda: fault.hits, 30)
            await eventually(system.ready, 30)
        jobs = [await system.finished(await system.submit())]
        cancelled = await cancel_another(system)
        await read_like_a_user(system, jobs[0])
        await system.upload_image()
        while not fault.hits:  # some calls are made only now and then
            jobs.append(await system.finished(await system.submit()))

    assert [refusal.dependency for refusal in system.refusals] == [call.dependency] * (case in call.refused_in)
    for job in jobs:
        assert (job["status"], await system.facts(job["job_id"])) == ("succeeded", SUCCEEDED)
    facts = await system.facts(cancelled)
    assert (facts[0], facts[-2:]) == ("requested", ["cancel-requested", "cancelled"])
    once = [fact for fact in facts if fact != "artifact"]
    assert len(once) == len(set(once))
    await eventually(system.ready, 30)
    await system.tables_equal_the_log()
    images = [image for job in [*jobs, await system.job(cancelled)] for image in job["artifacts"]]
    assert await system.collected() - objects_before == {object_key(image["sha256"]) for image in images}
    assert await last_sequence(system.bus, "PARKED") == 0, "a valid event was parked"


async def cancel_another(system: InProcessSystem) -> str:
    """A job that would take long, cancelled while it runs; its id."""
    job_id = await system.submit(steps=150, images=16)
    await eventually(lambda: system.facts(job_id), until=lambda facts: "started" in facts)
    await system.request("POST", f"/v1/jobs/{job_id}/cancel")
    assert (await system.finished(job_id))["status"] == "cancelled"
    return job_id


async def read_like_a_user(system: InProcessSystem, job: dict[str, Any]) -> None:
    """What a user does with a finished job: read its events and its images."""
    assert await system.streamed_facts(job["job_id"]) == SUCCEEDED
    for image in job["artifacts"]:
        await system.fetch_image(image)
