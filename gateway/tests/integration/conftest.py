"""Fixtures of the tests of a running gateway; servers belong to the test alone, unless its file shares a gateway."""

import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path; what they share needs a name

from simulated_system import BODY, MODEL, SimulatedSystem, models, ready, running, settings_of

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.choice import chosen_servers
from dreamforge.runtime.testing.databases import database
from dreamforge.runtime.testing.streams import declare_streams


@dataclass(frozen=True, slots=True)
class SharedGateway:
    """What a test needs to talk to it, and to write beside it."""

    settings: GatewaySettings
    url: str


@pytest.fixture
def change_settings() -> dict[str, object]:
    """What a test wants other than the defaults; override by parametrizing."""
    return {}


@pytest.fixture
def own_gateway() -> None:
    """For a test of a file that shares a gateway, which leaves behind what others would meet."""


@pytest.fixture(scope="session")
def shared_gateway(request: pytest.FixtureRequest) -> Iterator[SharedGateway | None]:
    """One gateway for the tests of all files that use this fixture: each needs over a second to start.

    A test of them that changes settings, asks for its NATS server or says `own_gateway` has one of its own, as the
    tests of the other files. None where tests cannot have a server for longer than themselves.
    """
    if chosen_servers() != "embedded":
        yield None
        return
    folder = request.getfixturevalue("tmp_path_factory").mktemp("gateway")
    template = request.getfixturevalue("_template_database")
    s3_settings = request.getfixturevalue("_shared_s3_settings").with_fresh_bucket()
    nats = NatsServer(folder)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(nats),
        database(request.getfixturevalue("_postgres_url"), template) as url,
    ):
        portal.call(declare_streams, nats.url)
        settings = settings_of({**nats.settings_env(), "FORGE_DATABASE_URL": url, **s3_settings.settings_env()})
        with portal.wrap_async_context_manager(running(settings)) as (address, _):
            yield SharedGateway(settings, address)
        s3_settings.remove_bucket()


@pytest.fixture
def shared(request: pytest.FixtureRequest, change_settings: dict[str, object]) -> SharedGateway | None:
    """The shared gateway, where this test uses it."""
    asked = set(request.fixturenames)
    if "shared_gateway" not in asked or change_settings or {"nats_server", "own_gateway"} & asked:
        return None
    found: SharedGateway | None = request.getfixturevalue("shared_gateway")
    return found


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, shared: SharedGateway | None, change_settings: dict[str, object]
) -> GatewaySettings:
    if shared is not None:
        return shared.settings
    return settings_of(request.getfixturevalue("forge_env"), **change_settings)


@pytest.fixture
async def system(settings: GatewaySettings, shared: SharedGateway | None) -> AsyncIterator[SimulatedSystem]:
    bus = await open_log(settings, "test")
    system = SimulatedSystem(settings, bus, EventStore(bus, "/test"))
    if shared is not None:
        await system.empty_tables()
    await system.register(MODEL)
    yield system
    await bus.nc.close()


@pytest.fixture
async def client(
    system: SimulatedSystem, settings: GatewaySettings, shared: SharedGateway | None
) -> AsyncIterator[httpx.AsyncClient]:
    """Talks to a gateway that is ready, and has the one model."""
    async with contextlib.AsyncExitStack() as exits:
        url = shared.url if shared else (await exits.enter_async_context(running(settings)))[0]
        client = await exits.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20))
        await ready(client)
        await eventually(lambda: models(client), until=_has_the_model)
        yield client


def _has_the_model(found: list[Any]) -> bool:
    """Whether the registry is as it was before a test of this gateway registered others."""
    return [ModelDescriptor.model_validate(each["descriptor"]) for each in found] == [MODEL]


@pytest.fixture
def submit(client: httpx.AsyncClient) -> Callable[..., Any]:
    """POST a body; the id of the job."""

    async def post(**changes: object) -> str:
        response = await client.post("/v1/jobs", json=BODY | changes)
        assert response.status_code == 202, response.text
        return str(response.json()["job_id"])

    return post
