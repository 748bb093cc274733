"""A dry run checks everything and keeps nothing; what the scheduler expects is in the replies, and is never needed."""

import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest
from simulated_system import BODY, SimulatedSystem

from dreamforge.contracts.events import EstimateSource
from dreamforge.contracts.forecasts import (
    BatchForecast,
    Forecast,
    ForecastAnswer,
    ForecastQuestion,
    RunnerShare,
    SecondsRange,
)
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
OF_BATCH = BatchForecast(
    jobs=4,
    starts_in_seconds=SecondsRange(p50=5, p90=8),
    ends_in_seconds=SecondsRange(p50=65, p90=90),
    ahead=1,
    estimate=EstimateSource.SCALED,
    runners=(RunnerShare(runner_id="fast", jobs=4, ends_in_seconds=SecondsRange(p50=65, p90=90)),),
)
BATCH = {
    "request": {name: value for name, value in BODY.items() if name not in ("prompt", "steps")},
    "template": {"prompt": "a {red|blue} circle"},
    "grid": {"steps": [2, 3]},
}


@contextlib.asynccontextmanager
async def answering(system: SimulatedSystem) -> AsyncIterator[list[ForecastQuestion]]:
    """A scheduler that expects the same of every job; what it was asked."""
    asked = []

    async def answer(message) -> None:  # type: ignore[no-untyped-def]  # as the client's callbacks
        asked.append(ForecastQuestion.model_validate_json(message.data))
        answer = ForecastAnswer(forecast=EXPECTED) if asked[-1].batch is None else ForecastAnswer(batch=OF_BATCH)
        await message.respond(answer.model_dump_json().encode())

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


async def test_a_dry_run_of_a_batch_says_what_its_jobs_are_and_when_they_end_and_keeps_nothing(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    before = await last_sequence(system.bus, JOBS.name)
    async with answering(system) as asked:
        response = await client.post("/v1/batches?dry_run=true", json=BATCH, headers={"Idempotency-Key": "tried batch"})
    assert response.status_code == 200
    found = response.json()
    assert (found["jobs"], found["template_seed"], found["reason"]) == (4, None, None)
    assert found["forecast"] == OF_BATCH.model_dump(mode="json")
    assert found["chosen"] == [
        {"prompt": f"a {colour} circle", "steps": steps} for colour in ("red", "blue") for steps in (2, 3)
    ]
    assert found["pixel_steps"] == 2 * (2 + 3) * found["request"]["width_px"] * found["request"]["height_px"]
    assert asked[0].batch is not None
    assert [asked[0].batch.requests[index].request.steps for index in asked[0].batch.jobs] == [2, 3, 2, 3]
    assert len(asked[0].batch.requests) == 2, "jobs that differ in their prompts only take the same time"
    assert "circle" not in asked[0].model_dump_json()
    assert await last_sequence(system.bus, JOBS.name) == before
    made = await client.post("/v1/batches", json=BATCH, headers={"Idempotency-Key": "tried batch"})
    assert made.status_code == 202, "its key was not used"
    wrong = BATCH | {"grid": {"steps": [2, 0]}}
    tried, real = [(await client.post(f"/v1/batches{query}", json=wrong)).json() for query in ("?dry_run=true", "")]
    assert (tried["code"], tried["errors"]) == (real["code"], real["errors"])
    random = BATCH | {"samples": 2, "grid": {}}
    tried = (await client.post("/v1/batches?dry_run=true", json=random)).json()
    again = BATCH | {"samples": 2, "grid": {}, "template_seed": tried["template_seed"]}
    assert (await client.post("/v1/batches?dry_run=true", json=again)).json()["chosen"] == tried["chosen"]
