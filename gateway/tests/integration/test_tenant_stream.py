"""One stream tells what happens to all jobs of a tenant, and goes on after any of its events."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from simulated_system import BODY, Seen, SimulatedSystem, events

from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.tables import CHECKPOINT_CHANNEL
from dreamforge.gateway.events import tenant_page
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime.testing import eventually

# What wakes a stream that wrongly waits.
HEARTBEAT_SECONDS = GatewaySettings.model_fields["gateway_heartbeat_seconds"].default
pytestmark = pytest.mark.usefixtures("shared_gateway")


async def take(told: Any, count: int) -> list[tuple[str, str]]:
    """Job and name of the next events."""
    return [(each.data["job_id"], each.event) for each in [await anext(told) for _ in range(count)]]


async def test_every_job_of_a_tenant_is_told_with_the_steps_of_those_that_run(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any
) -> None:
    before = await submit()
    await system.start(before)
    await system.project(before)
    async with client.stream("GET", "/v1/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        told = events(response)
        await system.step(before, 1)
        assert await take(told, 1) == [(before, "step")], "what was before is not told, but its steps are"
        answer = await client.post("/v1/jobs", json=BODY, headers={"Forge-Tenant": "other"})
        other, mine = answer.json()["job_id"], await submit()
        for job_id in (other, mine):
            await system.project(job_id)
        assert await take(told, 1) == [(mine, "requested")]
        await system.start(mine)
        await system.project(mine)
        assert await take(told, 2) == [(mine, "assigned"), (mine, "started")]
        await system.step(mine, 1, attempt=2)  # of no attempt that there is
        await system.step(mine, 2)
        step: Seen = await anext(told)
        assert (step.event, step.data["attempt"], step.data["step"]) == ("step", 1, 2)
        await system.finish(mine)
        await system.project(mine)
        assert await take(told, 2) == [(mine, "artifact"), (mine, "succeeded")]


async def test_a_client_goes_on_where_it_was(client: httpx.AsyncClient, system: SimulatedSystem, submit: Any) -> None:
    async with client.stream("GET", "/v1/events") as response:
        begin = (await anext(response.aiter_lines())).removeprefix("id: ")
    first, second = await submit(), await submit()
    for job_id in (first, second):
        await system.cancel(job_id)
        await system.project(job_id)
    whole = [(job_id, name) for job_id in (first, second) for name in ("requested", "cancel-requested", "cancelled")]
    whole = [whole[0], whole[3], *whole[1:3], *whole[4:]]  # both were requested first
    async with client.stream("GET", "/v1/events", headers={"Last-Event-ID": begin}) as response:
        told = events(response)
        seen = [await anext(told) for _ in whole]
        assert [(each.data["job_id"], each.event) for each in seen] == whole
    for place in range(len(seen) - 1):
        async with client.stream("GET", "/v1/events", params={"last_event_id": seen[place].id}) as response:
            assert await take(events(response), len(whole) - place - 1) == whole[place + 1 :]


async def test_of_many_events_only_those_that_are_wanted(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any
) -> None:
    refused = await client.get("/v1/events", params={"only": "suceeded"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    async with client.stream("GET", "/v1/events", params={"only": "succeeded,cancelled"}) as response:
        job_id, stopped = await submit(), await submit()
        await system.start(job_id)
        await system.finish(job_id)
        await system.cancel(stopped)
        for each in (job_id, stopped):
            await system.project(each)
        assert await take(events(response), 2) == [(job_id, "succeeded"), (stopped, "cancelled")]


async def test_pages_of_events_that_are_not_wanted_are_passed_over_at_once(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_page, "PAGE_EVENTS", 2)
    async with client.stream("GET", "/v1/events") as response:
        begin = (await anext(response.aiter_lines())).removeprefix("id: ")
    jobs = [await submit() for _ in range(3)]
    for job_id in jobs:
        await system.start(job_id)  # an assignment is read for the sake of steps
        await system.finish(job_id)
        await system.project(job_id)
    query = {"only": "succeeded,step", "last_event_id": begin}
    async with client.stream("GET", "/v1/events", params=query) as response, asyncio.timeout(HEARTBEAT_SECONDS / 2):
        assert await take(events(response), 3) == [(job_id, "succeeded") for job_id in jobs]


async def test_what_was_notified_and_is_not_in_the_tables_yet_is_told_when_it_is(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any
) -> None:
    async with client.stream("GET", "/v1/events") as response:
        first, second = await submit(), await submit()
        ahead = (await system.store.load(second)).version  # by a database that failed, for one that was behind it
        await system.sql("SELECT pg_notify(%s, %s)", CHECKPOINT_CHANNEL, f"{JOBS.name} {ahead}")
        told = events(response)
        for job_id in (first, second):
            await system.project(job_id)
            assert await take(told, 1) == [(job_id, "requested")]


async def test_an_id_of_another_log_begins_now(client: httpx.AsyncClient, system: SimulatedSystem, submit: Any) -> None:
    job_id = await submit()
    await system.project(job_id)
    async with client.stream("GET", "/v1/events", headers={"Last-Event-ID": "1-0-00000000"}) as response:
        lines = response.aiter_lines()
        assert int((await anext(lines)).removeprefix("id: ").split("-")[0]) >= (await system.store.load(job_id)).version


async def test_a_stream_that_is_left_is_closed(client: httpx.AsyncClient) -> None:
    async def open_streams() -> float:
        lines = (await client.get("/metrics")).text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith("forge_sse_clients"))

    before = await open_streams()
    async with client.stream("GET", "/v1/events"):
        assert await open_streams() == before + 1
    await eventually(open_streams, until=lambda number: number == before)


async def reads_of_the_tables(client: httpx.AsyncClient) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("forge_tenant_stream_reads_total"))


async def test_many_clients_that_are_up_to_date_are_as_many_reads_as_one(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any
) -> None:
    async with AsyncExitStack() as opened:
        queries: list[dict[str, str]] = [{}, {"only": "requested"}] * 5
        streams = [client.stream("GET", "/v1/events", params=query) for query in queries]
        told = [events(await opened.enter_async_context(stream)) for stream in streams]
        first, *jobs = [await submit() for _ in range(5)]
        await system.project(first)
        for each in told:
            assert await take(each, 1) == [(first, "requested")]
        before = await reads_of_the_tables(client)
        for job_id in jobs:
            await system.project(job_id)
            for each in told:
                assert await take(each, 1) == [(job_id, "requested")]
        assert await reads_of_the_tables(client) - before <= 2 * len(jobs)


@pytest.mark.parametrize("change_settings", [{"gateway_stream_buffer_bytes": 2_048}])
async def test_who_does_not_take_what_it_is_told_reads_it_for_itself(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any
) -> None:
    jobs = [await submit() for _ in range(12)]
    async with client.stream("GET", "/v1/events") as response:
        told = events(response)
        await system.project(jobs[0])
        assert await take(told, 1) == [(jobs[0], "requested")]
        last = jobs[-1]
        for job_id in jobs[1:-1]:  # more than fits, in one move of the checkpoint
            await system.project_rows(job_id)
        await system.project(last)
        assert await take(told, len(jobs) - 1) == [(job_id, "requested") for job_id in jobs[1:]]
