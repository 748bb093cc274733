"""Every call to a server, times every way in which it can go wrong: each ends in the same correct state.

    pytest tests/fault_matrix --collect-only -q        prints the matrix

A row is one call of one service, as it looks on the wire (see `injection`). For each case the whole system paints one
job and cancels another while that call is struck; afterwards nothing may show that anything happened, but for the
503 with Retry-After of a user whose own request was the one that was struck.
"""

from dataclasses import dataclass
from typing import Any, Literal

import pytest
from injection import Case
from whole_system import System

from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.storage.objects import object_key
from dreamforge.runtime.testing import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
JOB = r"forge\.jobs\.[0-9a-f-]+\.\d+\."
SUCCEEDED = ["requested", "assigned", "started", "artifact", "artifact", "succeeded"]
NOTHING_DONE, EVERY = frozenset((Case.ERROR, Case.TIMEOUT)), frozenset(Case)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one service. A user is told (503) in the cases of `told`; `cut` has the service connect anew."""

    name: str
    wire: str
    told: frozenset[Case] = frozenset()
    dependency: Literal["nats", "postgres", "s3"] = "nats"
    cut: str = ""


CALLS = (
    # Appending to the log. A lost answer is looked up, so only what was not done reaches the user.
    Call("gateway appends JobRequested", rf"^gateway\S* {JOB}requested$", NOTHING_DONE),
    Call("gateway appends CancelRequested", rf"^gateway\S* {JOB}cancel-requested$", NOTHING_DONE),
    Call("scheduler appends JobAssigned", rf"^scheduler {JOB}assigned\.r1$"),
    Call("runner appends JobStarted", rf"^gpu-runner\S* {JOB}started$"),
    Call("runner appends pictures and success, inside the batch", rf"^gpu-runner\S* {JOB}artifact"),
    Call("runner appends pictures and success, the commit", rf"^gpu-runner\S* {JOB}succeeded$"),
    Call("runner appends JobCancelled", rf"^gpu-runner\S* {JOB}cancelled$"),
    # Reading the log.
    Call("gateway asks the leader for the version of a job", r"^gateway\S* \$JS\.API\.STREAM\.MSG\.GET\.JOBS$", EVERY),
    Call("gateway loads a job", r"^gateway\S* \$JS\.API\.DIRECT\.GET\.JOBS$", EVERY),
    Call("gateway reads the steps of a job", r"^gateway\S* \$JS\.API\.DIRECT\.GET\.STEPS$", EVERY),
    Call("runner reads the request of its assignment", r"^gpu-runner\S* \$JS\.API\.DIRECT\.GET\.JOBS\."),
    Call("scheduler follows the log", r"^scheduler \$JS\.API\.CONSUMER\.CREATE\.JOBS", cut="scheduler"),
    Call("projector follows the log", r"^projector\S* \$JS\.API\.CONSUMER\.CREATE\.JOBS", cut="projector"),
    Call("projector asks how long the log is", r"^projector\S* \$JS\.API\.STREAM\.INFO\.JOBS", cut="projector"),
    Call("projector pulls from the log", r"^projector\S* \$JS\.API\.CONSUMER\.MSG\.NEXT\.JOBS", cut="projector"),
    Call("gateway follows the log", r"^gateway\S* \$JS\.API\.CONSUMER\.CREATE\.JOBS", cut="gateway"),
    # Leases: heartbeats of the fleet, leadership of the schedulers.
    Call("runner puts its heartbeat", r"^gpu-runner\S* \$KV\.runners\.r1$"),
    Call("scheduler reads the heartbeats", r"^scheduler \$JS\.API\.CONSUMER\.CREATE\.KV_runners", cut="scheduler"),
    Call("gateway reads the heartbeats", r"^gateway\S* \$JS\.API\.CONSUMER\.CREATE\.KV_runners", cut="gateway"),
    Call("scheduler renews its leadership", r"^scheduler \$KV\.leaders\."),
    # Reading the tables.
    Call("gateway reads a job's row", "^dreamforge-gateway SELECT jobs.*WHERE jobs.job_id", EVERY, "postgres"),
    Call("gateway finds a picture", "^dreamforge-gateway SELECT artifacts.object_key", EVERY, "postgres"),
    Call("gateway counts open jobs", "^dreamforge-gateway SELECT .*GROUP BY jobs.tenant"),
    # Writing the tables.
    Call("projector reads what it folds on", "^dreamforge-projector SELECT j.job_id"),
    Call("projector moves the checkpoint", "^dreamforge-projector UPDATE checkpoints SET"),
    Call("projector writes rows", '^dreamforge-projector INSERT INTO "jobs"'),
    Call("projector reveals pictures", "^dreamforge-projector UPDATE artifacts SET visible"),
    Call("projector says how far it is", "^dreamforge-projector SELECT pg_notify"),
    Call("projector commits", "^dreamforge-projector COMMIT"),
    # Pictures.
    Call("runner puts a picture", r"^PUT /\S+/images/"),
    Call("gateway looks for a picture", r"^HEAD /\S+/images/", EVERY, "s3"),
    Call("gateway looks for an upload", r"^HEAD /\S+/uploads/", EVERY, "s3"),
    Call("gateway puts an upload", r"^PUT /\S+/uploads/", EVERY, "s3"),
)


@pytest.mark.parametrize("case", Case)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name.replace(" ", "-"))
async def test_every_call_ends_in_a_correct_state(system: System, call: Call, case: Case) -> None:
    await eventually(system.ready, 30)
    objects_before = await system.collected()
    system.told.clear()

    with system.weather.bad(case, call.wire) as fault:
        if call.cut:
            system.weather.cut(call.cut)
            await eventually(lambda: fault.met, 30)
            await eventually(system.ready, 30)
        jobs = [await system.ended(await system.submit())]
        cancelled = await cancel_another(system)
        await see(system, jobs[0])
        await system.bring()
        while not fault.met:  # some calls are made only now and then
            jobs.append(await system.ended(await system.submit()))

    assert [told.dependency for told in system.told] == [call.dependency] * (case in call.told)
    for job in jobs:
        assert (job["status"], await system.facts(job["job_id"])) == ("succeeded", SUCCEEDED)
    facts = await system.facts(cancelled)
    assert (facts[0], facts[-2:]) == ("requested", ["cancel-requested", "cancelled"])
    assert len(facts) == len(set(facts))
    await eventually(system.ready, 30)
    await system.tables_equal_the_log()
    pictures = [picture for job in jobs for picture in job["artifacts"]]
    assert await system.collected() - objects_before == {object_key(picture["sha256"]) for picture in pictures}
    assert await last_sequence(system.bus, "PARKED") == 0, "a healthy event was set aside"


async def cancel_another(system: System) -> str:
    """A job that would take long, cancelled while it runs; its id."""
    job_id = await system.submit(steps=150, images=4)
    await eventually(lambda: system.facts(job_id), until=lambda facts: "started" in facts)
    await system.ask("POST", f"/v1/jobs/{job_id}/cancel")
    assert (await system.ended(job_id))["status"] == "cancelled"
    return job_id


async def see(system: System, job: dict[str, Any]) -> None:
    """What a user does with a finished job: look at its story and its pictures."""
    assert await system.watched(job["job_id"]) == SUCCEEDED
    for picture in job["artifacts"]:
        await system.fetch(picture)
