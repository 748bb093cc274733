"""Gateway, scheduler, runner and projector in one process over real servers, and a client that retries."""

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from httpx_sse import EventSource
from PIL import Image

from dreamforge.contracts.log.envelope import unseal
from dreamforge.contracts.log.permissions import runner_user
from dreamforge.contracts.log.subjects import job_filter
from dreamforge.gateway import main as gateway
from dreamforge.gateway.http.server import listen
from dreamforge.gpu_runner import main as runner
from dreamforge.projector import main as projector
from dreamforge.projector.maintenance.artifact_collector import collect
from dreamforge.projector.maintenance.verify import verify
from dreamforge.runtime import ids
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.service import shell
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.storage.settings import StorageSettings
from dreamforge.runtime.testing import eventually
from dreamforge.scheduler import main as scheduler
from system_testkit.api_client import JOB_SECONDS, ApiClient
from system_testkit.fault_injection import ADMINISTRATOR, FaultInjector

BUS_USERS = {"gpu-runner": runner_user("r1")}
# A child process starts, on cores that others may use too.
READY_SECONDS = 60.0
OWN = {"FORGE_RUNNER_ID": "r1", "FORGE_RUNNER_RENDERER": "synthetic", "FORGE_RUNNER_STEP_DELAY_SECONDS": "0.005"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 503 response: the path, and the dependency that was unavailable."""

    path: str
    dependency: str


@dataclass
class InProcessSystem(ApiClient):
    """The running system. `refusals` is every 503 since it was cleared."""

    settings: StorageSettings
    faults: FaultInjector
    bus: Bus
    objects: ObjectStore
    services: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A response, retried after each 503, which must say when to retry. No other error may happen."""
        async with asyncio.timeout(JOB_SECONDS):
            while True:
                response = await self.client.request(method, path, **options)
                if response.status_code != 503:
                    assert response.status_code < 400, response.text
                    return response
                assert int(response.headers["retry-after"]) > 0
                problem = response.json()
                self.refusals.append(Refusal(path, str(problem.get("dependency", problem["code"]))))
                await asyncio.sleep(0.05)  # Retry-After is for production; here there is one client

    async def submit(self, **changes: object) -> str:
        """A job of two images, with an idempotency key, so that a retry asks for the same job."""
        body: dict[str, object] = {"prompt": "a red circle", "model_id": "synthetic", "steps": 3, "images": 2}
        key = {"Idempotency-Key": ids.new_id()}
        return str((await self.request("POST", "/v1/jobs", json=body | changes, headers=key)).json()["job_id"])

    async def streamed_facts(self, job_id: str) -> list[str]:
        """The names of a finished job's facts as its event stream sends them."""
        response = await self.request("GET", f"/v1/jobs/{job_id}/events")
        events = [event.event for event in EventSource(response).iter_sse() if event.data]
        return [name for name in events if name != "step"]

    async def facts(self, job_id: str) -> list[str]:
        """Every message of a job in the log, in order, duplicates included."""
        found: list[str] = []
        async for batch in Follower(self.bus, "JOBS", (job_filter(job_id),)).batches():
            events = (unseal(m.subject, m.headers, m.data, sequence=m.sequence).event for m in batch.messages)
            found += [event.TOKEN for event in events]
            if batch.pending == 0:
                return found
        raise AssertionError("following ended")

    async def fetch_image(self, artifact: dict[str, Any]) -> None:
        """Fetch an image as a user does: its bytes must have the hash that is in the log."""
        body = (await self.request("GET", f"/v1/artifacts/{artifact['artifact_id']}")).content
        assert hashlib.sha256(body).hexdigest() == artifact["sha256"]

    async def upload_image(self) -> None:
        """Upload an image that is new, and read it back."""
        out = io.BytesIO()
        Image.frombytes("RGB", (16, 16), os.urandom(16 * 16 * 3)).save(out, "PNG")
        headers = {"Content-Type": "image/png"}
        uploaded = (await self.request("POST", "/v1/uploads", content=out.getvalue(), headers=headers)).json()
        assert (await self.request("GET", uploaded["url"])).content == out.getvalue()

    async def ready(self) -> bool:
        """Whether every service runs, the gateway is ready and the runner is live."""
        ended = {name: task for name, task in self.services.items() if task.done()}
        assert not ended, ended
        runners = await self.client.get("/v1/runners")
        models = await self.client.get("/v1/models")
        assert (await self.client.get("/readyz")).status_code == runners.status_code == models.status_code == 200
        alive = [each["runner_id"] for each in runners.json()["runners"] if each["heartbeat"]]
        return alive == ["r1"] and bool(models.json()["models"])

    async def collected(self) -> set[str]:
        """The keys of all stored images after a collection of what cancelled jobs left."""
        url = self.settings.database_url.get_secret_value()
        collection = partial(collect, url, self.bus, self.objects, grace_seconds=0)
        await eventually(collection, until=lambda done: not done.behind)
        return {found.key for found in await self.objects.listed()}

    async def tables_equal_the_log(self) -> None:
        """Rows and checkpoints are what a fresh fold gives."""
        verified = await verify(self.settings)
        assert verified.equal, verified.first_difference


@asynccontextmanager
async def in_process_system(folder: Path, faults: FaultInjector, **own: str) -> AsyncIterator[InProcessSystem]:
    """A system that is ready; at the end it is stopped in order, which must work too.

    `own` are further settings (FORGE_...) of every service.
    """
    async with AsyncExitStack() as exits:
        servers = await exits.enter_async_context(EmbeddedStack(folder / "servers", runner_ids=("r1",)))
        environment = servers.settings_env() | OWN | {"FORGE_STATE_DIR": str(folder)} | own
        named = {name.removeprefix("FORGE_").lower(): value for name, value in environment.items()}
        settings = StorageSettings(_env_file=None, **named)  # type: ignore[arg-type]
        listener = listen("127.0.0.1", 0)
        url = "http://{}:{}".format(*listener.getsockname()[:2])
        client = await exits.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30.0))
        bus = await bus_module.connect(settings.nats_url, ADMINISTRATOR)
        exits.push_async_callback(bus.close)
        system = InProcessSystem(client, settings, faults, bus, ObjectStore(settings))
        stop = asyncio.Event()
        own_listener = replace(gateway.SERVICE, start=partial(gateway.answer, listener=listener))
        services: tuple[shell.Service[Any], ...] = (own_listener, scheduler.SERVICE, runner.SERVICE, projector.SERVICE)
        for service in services:
            own = servers.service_env(BUS_USERS.get(service.name, service.name))
            user = {name.removeprefix("FORGE_").lower(): value for name, value in own.items()}
            serving = shell.serve(service, service.settings(_env_file=None, **named | user), stop)
            system.services[service.name] = asyncio.create_task(serving, name=service.name)
        try:
            await eventually(system.ready, READY_SECONDS, interval_seconds=0.1)
            yield system
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*system.services.values()), 30)
