"""A dry run checks everything and keeps nothing; what the scheduler expects is in the replies, and is never needed."""

import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
from simulated_system import BODY, SimulatedSystem

from dreamforge.contracts.events import EstimateSource
from dreamforge.contracts.forecasts import Forecast, ForecastAnswer, ForecastQuestion, SecondsRange
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.log.subjects import FORECASTS
from dreamforge.runtime.log.follow import last_sequence

pytestmark = pytest.mark.usefixtures("shared_gateway")

EXPECTED = Forecast(
    runner_id="fast",
    load_seconds=0,
    starts_in_seconds=SecondsRange(p50=5, p90=8),
    ends_in_seconds=SecondsRange(p50=15, p90=24),
    ahead=1,
    estimate=EstimateSource.MEASURED,
    idle_runner_id="slow",
    idle_ends_in_seconds=40,
)


@contextlib.asynccontextmanager
async def answering(system: SimulatedSystem) -> AsyncIterator[list[ForecastQuestion]]:
    """A scheduler that expects the same of every job; what it was asked."""
    asked = []

    async def answer(message) -> None:  # type: ignore[no-untyped-def]  # as the client's callbacks
        asked.append(ForecastQuestion.model_validate_json(message.data))
        await message.respond(ForecastAnswer(forecast=EXPECTED).model_dump_json().encode())

    subscription = await system.bus.nc.subscribe(FORECASTS, cb=answer)
    await system.bus.nc.flush()
    try:
        yield asked
    finally:
        await subscription.unsubscribe()


async def test_a_dry_run_resolves_the_request_and_keeps_nothing(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    before = await last_sequence(system.bus, JOBS.name)
    response = await client.post("/v1/jobs?dry_run=true", json=BODY, headers={"Idempotency-Key": "tried"})
    assert response.status_code == 200
    found = response.json()
    assert found["request"]["prompt"] == BODY["prompt"]
    assert found["request"]["width_px"] * found["request"]["height_px"] * found["request"]["steps"] == (
        found["pixel_steps"] // found["request"]["images"]
    )
    assert (found["forecast"], found["reason"]) == (None, "no scheduler answers")
    assert await last_sequence(system.bus, JOBS.name) == before
    made = await client.post("/v1/jobs", json=BODY | {"prompt": "another"}, headers={"Idempotency-Key": "tried"})
    assert made.status_code == 202, "its key was not used"


async def test_a_dry_run_refuses_what_a_request_refuses(client: httpx.AsyncClient) -> None:
    for body in ({}, BODY | {"model_id": "unknown"}, BODY | {"steps": 0}):
        tried, real = [await client.post(f"/v1/jobs{query}", json=body) for query in ("?dry_run=true", "")]
        assert (tried.status_code, tried.json()["code"]) == (real.status_code, real.json()["code"])


async def test_what_the_scheduler_expects_is_in_the_replies(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    accepted = (await client.post("/v1/jobs", json=BODY)).json()
    job_id = accepted["job_id"]
    await system.insert_job(job_id)
    async with answering(system) as asked:
        tried = (await client.post("/v1/jobs?dry_run=true", json=BODY)).json()
        job = (await client.get(f"/v1/jobs/{job_id}")).json()
        why = (await client.get(f"/v1/jobs/{job_id}/why")).json()
    assert tried["forecast"] == job["forecast"] == why["waiting"]["forecast"] == EXPECTED.model_dump(mode="json")
    assert [each.job_id for each in asked] == [None, job_id, job_id]
    assert asked[0].requested is not None
    assert BODY["prompt"] not in asked[0].model_dump_json()


async def test_a_job_that_is_over_is_not_asked_about(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    job_id = (await client.post("/v1/jobs", json=BODY)).json()["job_id"]
    await system.insert_job(job_id, status="succeeded")
    async with answering(system) as asked:
        assert (await client.get(f"/v1/jobs/{job_id}")).json()["forecast"] is None
    assert asked == []
