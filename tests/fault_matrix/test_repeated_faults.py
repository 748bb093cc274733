"""Faults that repeat: the lookup after a lost response fails too, or a fault stays."""

import asyncio

import pytest
from system_testkit.fault_injection import FaultCase
from system_testkit.in_process_system import InProcessSystem

from dreamforge.contracts.log.streams import LEADER_LEASE_SECONDS
from dreamforge.runtime import ids
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.leadership import Leadership
from dreamforge.runtime.service.tasks import cancel
from dreamforge.runtime.testing import eventually

pytestmark = [pytest.mark.fault, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
SUCCEEDED = ["requested", "assigned", "started", "artifact", "artifact", "succeeded"]
LOOKUP = r"\$JS\.API\.DIRECT\.GET\.JOBS$"
ALWAYS = 1_000_000


@pytest.mark.parametrize(
    ("service", "fact", "refused"),
    [
        ("gateway", "requested", ["nats"]),
        ("scheduler", r"assigned\.r1", []),
        ("gpu-runner", r"started\.r1", []),
        ("gpu-runner", r"succeeded\.r1", []),
    ],
)
async def test_a_fact_whose_append_cannot_be_looked_up_is_written_once(
    system: InProcessSystem, service: str, fact: str, refused: list[str]
) -> None:
    await eventually(system.ready, 30)
    system.refusals.clear()
    with system.faults.inject(FaultCase.DONE, rf"^{service}\S* (forge\.jobs\..*\.{fact}|{LOOKUP})$", times=2) as fault:
        job = await system.finished(await system.submit())
        assert fault.hits == 2
    assert [each.dependency for each in system.refusals] == refused
    assert (job["status"], await system.facts(job["job_id"])) == ("succeeded", SUCCEEDED)


@pytest.mark.parametrize(
    ("service", "fact"),
    [
        ("gateway", "requested"),
        ("scheduler", r"assigned\.r1"),
        ("gpu-runner", r"started\.r1"),
        ("gpu-runner", r"succeeded\.r1"),
    ],
)
async def test_a_fact_that_arrives_long_after_it_was_written_again_is_refused(
    system: InProcessSystem, service: str, fact: str
) -> None:
    await eventually(system.ready, 30)
    with system.faults.inject(FaultCase.TIMEOUT, rf"^{service}\S* forge\.jobs\..*\.{fact}$"):
        job = await system.finished(await system.submit())
        (deliver,) = system.faults.delayed
        await deliver()
        await system.bus.nc.flush()
    assert (job["status"], await system.facts(job["job_id"])) == ("succeeded", SUCCEEDED)
    assert (await system.finished(await system.submit()))["status"] == "succeeded"
    assert await system.facts(job["job_id"]) == SUCCEEDED
    await system.tables_equal_the_log()


async def test_a_repeated_submission_says_that_it_is_one(system: InProcessSystem) -> None:
    await eventually(system.ready, 30)
    body, key = {"prompt": "a blue square", "model_id": "synthetic"}, {"Idempotency-Key": ids.new_id()}
    with system.faults.inject(FaultCase.DONE, rf"^gateway\S* (forge\.jobs\..*\.requested|{LOOKUP})$", times=2):
        assert (await system.client.post("/v1/jobs", json=body, headers=key)).status_code == 503
        again = await system.client.post("/v1/jobs", json=body, headers=key)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (202, "true")
    assert (await system.finished(again.json()["job_id"]))["status"] == "succeeded"


async def test_a_runner_without_heartbeats_is_lost_and_comes_back(system: InProcessSystem) -> None:
    await eventually(system.ready, 30)

    async def fleet() -> list[str]:
        runners = (await system.client.get("/v1/runners")).json()["runners"]
        return [each["runner_id"] for each in runners if each["heartbeat"]]

    with system.faults.inject(FaultCase.TIMEOUT, r"^gpu-runner\S* \$KV\.runners\.r1$", times=ALWAYS):
        job_id = await system.submit(steps=150, images=8)
        await eventually(fleet, 15, until=lambda alive: not alive)
        facts = await eventually(lambda: system.facts(job_id), 15, until=lambda facts: "attempt-failed" in facts)
    assert [fact for fact in facts if fact != "artifact"] == ["requested", "assigned", "started", "attempt-failed"]
    await eventually(fleet, 15)
    job = await system.finished(job_id)
    facts = await system.facts(job_id)
    assert (job["status"], job["attempt"], len(job["artifacts"])) == ("succeeded", 2, 8)
    assert (facts.count("artifact"), facts.count("succeeded")) == (8, 1)
    await system.tables_equal_the_log()


@pytest.mark.parametrize("case", FaultCase)
async def test_of_two_candidates_never_both_lead_and_soon_one_does(system: InProcessSystem, case: FaultCase) -> None:
    leaders: dict[str, Leadership] = {}

    def one_at_most(_: bool) -> None:
        assert sum(each.leads for each in leaders.values()) <= 1

    names = ("candidate-a", "candidate-b")
    buses = {name: await bus_module.connect(system.settings.nats_url, name) for name in names}
    leaders |= {name: Leadership(bus, "matrix", name, one_at_most) for name, bus in buses.items()}
    campaigns = {name: asyncio.create_task(each.run()) for name, each in leaders.items()}

    def leading() -> str:
        assert not [task for task in campaigns.values() if task.done()]
        return next((name for name, each in leaders.items() if each.leads), "")

    first = await eventually(leading)
    other = next(name for name in names if name != first)
    with system.faults.inject(case, rf"^{first} \$KV\.leaders\.matrix$", times=ALWAYS):
        await eventually(leading, 20 * LEADER_LEASE_SECONDS, until=lambda name: name == other)
    assert leaders[other].leads
    await cancel(*campaigns.values())
    for bus in buses.values():
        await bus.close()
