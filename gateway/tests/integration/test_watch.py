"""Inside the gateway a job is followed to its end, whatever was before and however much comes at once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from simulated_system import SimulatedSystem

from dreamforge.contracts.errors import JobNotFound
from dreamforge.gateway.events.hub import Hub
from dreamforge.gateway.events.watch import watch
from dreamforge.runtime import ids
from dreamforge.runtime.testing import eventually


@pytest.fixture
async def hub(system: SimulatedSystem) -> AsyncIterator[Hub]:
    hub = Hub(system.bus, limit_streams=2, limit_bytes=1_000, heartbeat_seconds=0.05)
    task = asyncio.create_task(hub.run())
    await eventually(lambda: hub.ready or task.done())
    yield hub
    task.cancel()


async def test_history_then_live_once_each_though_the_reader_falls_behind(
    system: SimulatedSystem, hub: Hub, submit: Any
) -> None:
    job_id = await submit()
    await system.start(job_id)
    seen: list[str] = []
    async for event in watch(hub, job_id):
        seen.append(event["event"])
        if seen[-1] == "started":  # nothing is taken meanwhile: more comes than the subscription may hold
            for step in range(1, 9):
                await system.step(job_id, step, steps=8)
            await system.finish(job_id)
    assert [name for name in seen if name != "step"] == ["requested", "assigned", "started", "artifact", "succeeded"]
    assert event["job_id"] == job_id
    assert not hub._subscriptions


async def test_a_job_that_has_ended_is_told_from_history(system: SimulatedSystem, hub: Hub, submit: Any) -> None:
    job_id = await submit()
    await system.cancel(job_id)
    assert [event["event"] async for event in watch(hub, job_id)] == ["requested", "cancel-requested", "cancelled"]
    with pytest.raises(JobNotFound):
        [event async for event in watch(hub, ids.new_id())]
