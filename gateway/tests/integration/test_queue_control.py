"""Holding, releasing and reprioritising over HTTP, and what `why` says of it."""

from collections.abc import AsyncIterator

import httpx
from simulated_system import SimulatedSystem

from dreamforge.contracts.jobs.owner import RequestCancel
from dreamforge.runtime import clock, ids
from dreamforge.runtime.testing import eventually

BODY = {"prompt": "a red circle"}


async def test_a_job_is_held_released_and_reprioritised(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    job_id = (await client.post("/v1/jobs", json=BODY)).json()["job_id"]
    for name in ("hold", "hold", "release", "release"):
        answer = await client.post(f"/v1/jobs/{job_id}/{name}")
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert (await client.post(f"/v1/jobs/{job_id}/priority", json={"priority": 8})).status_code == 202
    tokens = [recorded.event.TOKEN for recorded in (await system.store.load(job_id)).history]
    assert tokens == ["requested", "held", "released", "priority-changed"]
    wrong = await client.post(f"/v1/jobs/{job_id}/priority", json={"priority": 10})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/priority")
    assert (await client.post(f"/v1/jobs/{ids.new_id()}/hold")).status_code == 404
    await system.store.execute(job_id, RequestCancel(clock.now()))
    assert (await client.post(f"/v1/jobs/{job_id}/hold")).json()["status"] == "cancelled"


async def test_why_names_what_is_held(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    job_id = ids.new_id()
    await system.insert_job(job_id, held_since=clock.now())
    explained = (await client.get(f"/v1/jobs/{job_id}/why")).json()
    assert explained["waiting"]["held"] == "job"
    assert explained["summary"].startswith("It is held since ")

    other = ids.new_id()
    await system.insert_job(other)
    held = (await client.post("/v1/queue/hold", json={"tenant": "default"})).json()["held"]
    assert [each["tenant"] for each in held] == ["default"]

    async def queue_held() -> str | None:
        kind: str | None = (await client.get(f"/v1/jobs/{other}/why")).json()["waiting"]["held"]
        return kind

    await eventually(queue_held, until=lambda kind: kind == "tenant")
    await client.post("/v1/queue/hold")
    await eventually(queue_held, until=lambda kind: kind == "fleet")
    assert (await client.post("/v1/queue/release")).json()["held"] == held
    await client.post("/v1/queue/release", json={"tenant": "default"})
    await eventually(queue_held, until=lambda kind: kind is None)
    assert (await client.get("/v1/queue")).json() == {"held": []}


async def test_a_body_larger_than_the_limit_is_refused_before_it_is_parsed(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    job_id = (await client.post("/v1/jobs", json=BODY)).json()["job_id"]

    async def chunks() -> AsyncIterator[bytes]:  # sent without a Content-Length: it has to be counted
        yield b'{"priority": 3, "padding": "'
        for _ in range(100):
            yield b"x" * 65536
        yield b'"}'

    for path in (f"/v1/jobs/{job_id}/priority", "/v1/queue/hold", "/v1/queue/release"):
        answer = await client.post(path, content=chunks(), headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert (await client.get("/v1/queue")).json() == {"held": []}
    assert (await system.store.load(job_id)).state.status == "queued"
