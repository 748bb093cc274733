"""`AsyncClient`: the API for asyncio. The blocking one is made of the same methods."""

from types import TracebackType
from typing import Self

import httpx

from dreamforge.client.batches import AsyncBatches
from dreamforge.client.connection import ANSWER_SECONDS, Connection
from dreamforge.client.jobs import AsyncJobs
from dreamforge.client.models import AsyncModels
from dreamforge.client.pictures import AsyncArtifacts, AsyncUploads
from dreamforge.client.reading import read_as
from dreamforge.client.retries import Retries
from dreamforge.client.session import GatewaySession, Json
from dreamforge.client.transport import AsyncTransport
from dreamforge.contracts.tenant_replies import MeReply


class AsyncApi:
    """The parts of the API over a session."""

    def __init__(self, session: GatewaySession) -> None:
        self.session = session
        self.jobs = AsyncJobs(session)
        self.batches = AsyncBatches(session)
        self.artifacts = AsyncArtifacts(session, self.jobs)
        self.uploads = AsyncUploads(session)
        self.models = AsyncModels(session)

    async def read(self, path: str, /, **query: str | int | None) -> Json:
        """Any document of the API that has no method here, as it is sent: `read("/v1/runners")`."""
        return await self.session.read(path, **query)

    async def write(self, method: str, path: str, body: Json | None = None) -> Json:
        """Any other write, with a body as JSON; {} where the answer has none."""
        return await self.session.write(method, path, body)

    async def me(self) -> MeReply:
        """Who this client is for the gateway: its tenant, what its key allows, its quotas."""
        return read_as(MeReply, await self.session.read("/v1/me"), "GET /v1/me")


class AsyncClient(AsyncApi):
    """A client for asyncio: `async with AsyncClient() as client`.

    What is not given comes from FORGE_GATEWAY_URL (default http://127.0.0.1:8080), FORGE_API_KEY and FORGE_TENANT. One
    client may be used from several event loops. `answer_seconds`: how long the gateway may be silent. `network`
    replaces the connections.
    Errors: InvalidConnection.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        tenant: str | None = None,
        answer_seconds: float = ANSWER_SECONDS,
        retries: Retries | None = None,
        network: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        connection = Connection.of(base_url, api_key, tenant, answer_seconds=answer_seconds)
        super().__init__(GatewaySession(connection, AsyncTransport(connection, network), retries))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections of this event loop."""
        await self.session.transport.close()
