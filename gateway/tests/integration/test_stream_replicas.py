"""A gateway whose replica of the log is behind keeps its promises: no gap in a stream, no 404 for what got its 202."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from simulated_system import BODY, SimulatedSystem, events, watch

from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime import ids
from dreamforge.runtime.testing.replica import Replica, lagging_replica

SUCCEEDED = ["requested", "assigned", "started", "artifact", "succeeded"]


@pytest.fixture
def replica() -> Iterator[Replica]:
    with lagging_replica(of="gateway") as replica:
        yield replica


@pytest.fixture
def settings(replica: Replica, settings: GatewaySettings) -> GatewaySettings:
    """Asked for by everything that connects: the replica comes first."""
    return settings


async def test_history_goes_as_far_as_the_live_tail_has_come(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any, replica: Replica
) -> None:
    job_id = await submit()
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as first:
        told = events(first)
        assert (await anext(told)).event == "requested"
        await system.start(job_id)
        assert [(await anext(told)).event for _ in range(2)] == ["assigned", "started"]  # the tail has passed them
        replica.ends_at = 1
        async with client.stream("GET", f"/v1/jobs/{job_id}/events") as second:
            assert second.status_code == 200
            seen = [each async for each in _until_end(second, system, job_id)]
    assert [each.event for each in seen] == SUCCEEDED
    resumed = await watch(client, job_id, last_id=seen[0].id)
    assert [each.event for each in resumed] == SUCCEEDED[1:]
    assert (await client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": seen[-1].id})).status_code == 204


async def _until_end(response: httpx.Response, system: SimulatedSystem, job_id: str) -> Any:
    """The stream's events; the job is finished as soon as there was one."""
    finishing: asyncio.Task[int] | None = None
    async for each in events(response):
        finishing = finishing or asyncio.create_task(system.finish(job_id))
        yield each
    if finishing:
        await finishing


async def test_a_job_that_got_its_202_is_known_at_once(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any, replica: Replica
) -> None:
    await submit()
    replica.ends_at = 1
    key = {"Idempotency-Key": "once"}
    accepted = await client.post("/v1/jobs", json=BODY, headers=key)
    job_id = accepted.json()["job_id"]
    again = await client.post("/v1/jobs", json=BODY, headers=key)
    assert (again.status_code, again.json()["job_id"], again.headers["idempotent-replayed"]) == (202, job_id, "true")
    assert (await client.post(f"/v1/jobs/{job_id}/cancel")).status_code == 202
    assert [each.event for each in await watch(client, job_id, count=2)] == ["requested", "cancel-requested"]
    assert (await client.get(f"/v1/jobs/{ids.new_id()}/events")).status_code == 404
