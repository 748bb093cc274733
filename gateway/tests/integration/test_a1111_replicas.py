"""A1111's clients have no ids: any gateway knows what they have selected and which job is theirs."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from simulated_system import MODEL, SimulatedSystem, models, ready, running

from dreamforge.contracts.models.descriptor import Token
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime import clock
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.testing import eventually

OTHER: Token = "other"


@pytest.fixture
async def second(client: httpx.AsyncClient, settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    """Another gateway of the same system, ready."""
    assert client
    async with running(settings) as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as other:
        await ready(other)
        await eventually(lambda: models(other))
        yield other


async def open_job(system: SimulatedSystem) -> str:
    """The only job, as soon as it is in the log, with its row as the projector would have it."""

    async def subjects() -> list[str]:
        return [each.subject for each in await direct_get.last_of_each(system.bus, "JOBS", "forge.jobs.>")]

    (subject,) = await eventually(subjects, until=bool)
    job_id = subject.split(".")[2]
    await system.start(job_id)
    loaded = await system.store.load(job_id)
    requested = loaded.history[0].event.model_dump()
    await system.insert_job(
        job_id, status="running", idempotency_key=requested["idempotency_key"], started_at=clock.now()
    )
    await system.project_to(loaded.version)
    return job_id


async def test_another_gateway_knows_what_was_selected_and_which_job_is_whose(
    client: httpx.AsyncClient, second: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    await system.register(MODEL.model_copy(update={"model_id": OTHER, "digest": "1" * 64}))
    for each in (client, second):
        await eventually(lambda each=each: models(each), until=lambda found: len(found) == 2)
    chosen = f"{OTHER} [{'1' * 10}]"
    assert (await client.post("/sdapi/v1/options", json={"sd_model_checkpoint": OTHER})).json() is None
    assert (await second.get("/sdapi/v1/options")).json()["sd_model_checkpoint"] == chosen

    waiting = asyncio.create_task(client.post("/sdapi/v1/txt2img", json={"prompt": "a fox", "steps": 4}))
    job_id = await open_job(system)
    assert (await system.store.load(job_id)).state.request.model_id == OTHER  # type: ignore[union-attr]
    elsewhere = {"X-Forwarded-For": "192.0.2.7"}
    assert (await second.get("/sdapi/v1/progress", headers=elsewhere)).json()["state"]["job_count"] == 0
    assert (await second.post("/sdapi/v1/interrupt", headers=elsewhere)).json() == {}
    assert not (await system.store.load(job_id)).state.cancel_requested
    seen = (await second.get("/sdapi/v1/progress")).json()
    assert (seen["state"]["job"], seen["state"]["job_count"]) == (job_id, 1)
    assert (await second.post("/sdapi/v1/interrupt")).json() == {}
    assert (await system.store.load(job_id)).state.cancel_requested
    await system.project_to(await system.cancel(job_id))
    answer = await waiting
    assert (answer.status_code, answer.json()["images"]) == (200, [])
