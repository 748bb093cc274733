"""Fixtures of the tests of a running gateway; servers belong to the test alone."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path; what they share needs a name

from simulated_system import BODY, MODEL, SimulatedSystem, models, ready, running, settings_of

from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.testing import eventually


@pytest.fixture
def change_settings() -> dict[str, object]:
    """What a test wants other than the defaults; override by parametrizing."""
    return {}


@pytest.fixture
def settings(forge_env: dict[str, str], change_settings: dict[str, object]) -> GatewaySettings:
    return settings_of(forge_env, **change_settings)


@pytest.fixture
async def system(settings: GatewaySettings) -> AsyncIterator[SimulatedSystem]:
    bus = await open_log(settings, "test")
    system = SimulatedSystem(settings, bus, EventStore(bus, "/test"))
    await system.register(MODEL)
    yield system
    await bus.nc.close()


@pytest.fixture
async def client(system: SimulatedSystem, settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    """Talks to a gateway that is ready."""
    async with running(settings) as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as client:
        await ready(client)
        await eventually(lambda: models(client))
        yield client


@pytest.fixture
def submit(client: httpx.AsyncClient) -> Callable[..., Any]:
    """POST a body; the id of the job."""

    async def post(**changes: object) -> str:
        response = await client.post("/v1/jobs", json=BODY | changes)
        assert response.status_code == 202, response.text
        return str(response.json()["job_id"])

    return post
