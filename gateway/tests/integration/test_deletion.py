"""A deleted job is answered like one that does not exist, by every route, until that is undone."""

import httpx
from simulated_system import BODY, SimulatedSystem

from dreamforge.contracts.jobs.erasure import EraseJob, RequestErasure
from dreamforge.runtime import clock

KEY = {"Idempotency-Key": "order-1"}


async def test_a_deleted_job_is_not_there_and_undelete_brings_it_back(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    job_id = (await client.post("/v1/jobs", json=BODY, headers=KEY)).json()["job_id"]
    await system.start(job_id)
    await system.insert_job(job_id)
    await system.insert_artifact(job_id)
    await system.finish(job_id)
    here = f"/v1/jobs/{job_id}"

    deleted = await client.delete(here)
    assert (deleted.status_code, deleted.json()["undelete"]) == (202, f"{here}/undelete")
    erase_at = deleted.json()["erase_at"]
    assert (await client.delete(here)).json() == deleted.json()
    await system.sql("UPDATE jobs SET erase_at = %s", erase_at)

    for path in (here, f"{here}/events", f"{here}/why", f"/v1/artifacts/{job_id}-1-0"):
        assert (await client.get(path)).status_code == 404, path
    for command in ("cancel", "hold", "release"):
        assert (await client.post(f"{here}/{command}")).status_code == 404, command
    assert (await client.delete(f"/v1/artifacts/{job_id}-1-0")).status_code == 404
    assert (await client.get("/v1/jobs")).json()["jobs"] == []
    repeated = await client.post("/v1/jobs", json=BODY, headers=KEY)
    assert (repeated.status_code, repeated.json()["code"]) == (410, "job_erased")
    (listed,) = (await client.get("/v1/erasures")).json()["erasures"]
    assert (listed["job_id"], listed["undelete"]) == (job_id, f"{here}/undelete")

    assert (await client.post(f"{here}/undelete")).status_code == 202
    await system.sql("UPDATE jobs SET erase_at = NULL")
    events = (await client.get(f"{here}/events")).text
    assert events.count("event: succeeded") == 1
    assert "erasure" not in events
    assert (await client.get("/v1/erasures")).json()["erasures"] == []
    assert (await client.post("/v1/jobs", json=BODY, headers=KEY)).status_code == 202


async def test_an_erased_job_cannot_be_undeleted_and_its_key_renders_nothing_again(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    job_id = (await client.post("/v1/jobs", json=BODY, headers=KEY)).json()["job_id"]
    now = clock.now()
    await system.store.execute(job_id, RequestErasure(now, now))
    await system.store.execute(job_id, EraseJob(now))
    assert (await client.post(f"/v1/jobs/{job_id}/undelete")).status_code == 404
    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 404
    assert (await client.get(f"/v1/jobs/{job_id}")).status_code == 404
    assert (await client.post("/v1/jobs", json=BODY, headers=KEY)).status_code == 410


async def test_everything_of_a_tenant_is_deleted_at_once(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    made = [
        (await client.post("/v1/jobs", json=BODY, headers={"Forge-Tenant": tenant})).json()
        for tenant in ("a", "a", "b")
    ]
    for each, tenant in zip(made, ("a", "a", "b"), strict=True):
        await system.insert_job(each["job_id"], tenant=tenant)
    await system.project_to(made[-1]["sequence"] + 100)
    answer = await client.delete("/v1/tenants/a/data")
    assert (answer.status_code, answer.json()) == (200, {"tenant": "a", "jobs": 2, "uploads": 0, "more": False})
    hidden = [(await system.store.load(each["job_id"])).state.hidden for each in made]
    assert hidden == [True, True, False]
    assert (await client.delete("/v1/tenants/a%20b/data")).status_code == 400


async def test_an_image_is_deleted_once_by_its_own_id(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    job_id = (await client.post("/v1/jobs", json=BODY)).json()["job_id"]
    await system.start(job_id)
    await system.finish(job_id)
    for other in (f"{job_id}-2-0", f"{job_id}-1-1", "nothing"):
        assert (await client.delete(f"/v1/artifacts/{other}")).status_code == 404
    first, again = [await client.delete(f"/v1/artifacts/{job_id}-1-0") for _ in range(2)]
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["sequence"] == again.json()["sequence"]
