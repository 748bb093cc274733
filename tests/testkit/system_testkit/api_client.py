"""The HTTP API as a test uses it: submit a job, wait for its end, read its events."""

from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import EventSource

from dreamforge.contracts.events import TERMINAL_EVENTS
from dreamforge.runtime.testing import eventually

TERMINAL_STATUSES = frozenset(event.TOKEN for event in TERMINAL_EVENTS)
JOB_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """One event of a stream, as its reader received it."""

    id: str
    event: str
    data: dict[str, Any]


@dataclass
class ApiClient:
    """Requests to one gateway. Errors: AssertionError for any response that is not a success."""

    client: httpx.AsyncClient

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request."""
        response = await self.client.request(method, path, **options)
        assert response.status_code < 400, response.text
        return response

    async def submit(self, **changes: object) -> str:
        """Submit a job for the synthetic renderer; its id."""
        body: dict[str, object] = {"prompt": "a red circle", "model_id": "synthetic", "steps": 3}
        return str((await self.request("POST", "/v1/jobs", json=body | changes)).json()["job_id"])

    async def job(self, job_id: str) -> dict[str, Any]:
        """A job as clients see it."""
        found: dict[str, Any] = (await self.request("GET", f"/v1/jobs/{job_id}")).json()
        return found

    async def finished(self, job_id: str, seconds: float = JOB_SECONDS) -> dict[str, Any]:
        """A job once it has ended, as the read tables show it."""
        return await eventually(lambda: self.job(job_id), seconds, until=lambda job: job["status"] in TERMINAL_STATUSES)

    async def read_events(self, job_id: str) -> list[StreamedEvent]:
        """Every event of a job, until its stream ends."""
        async with self.client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            assert response.status_code == 200, await response.aread()
            events = EventSource(response).aiter_sse()
            # Without data it is a heartbeat, or a frame with nothing but `retry`.
            return [StreamedEvent(event.id, event.event, event.json()) async for event in events if event.data]
