"""Gateway, scheduler, runner and projector in one process over real servers, and a client that never gives up."""

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from injection import Weather
from PIL import Image

from dreamforge.contracts.log.envelope import unseal
from dreamforge.contracts.log.subjects import job_filter
from dreamforge.gateway import main as gateway
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.gpu_runner import main as runner
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.projector import main as projector
from dreamforge.projector.maintenance.artifact_collector import collect
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import ids
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.testing import eventually
from dreamforge.scheduler import main as scheduler
from dreamforge.scheduler.settings import SchedulerSettings

# A child process starts, on cores that others may use too.
READY_SECONDS = 60.0
STORY_SECONDS = 30.0
ENDS = ("succeeded", "failed", "cancelled")
OWN = {"FORGE_RUNNER_ID": "r1", "FORGE_RUNNER_RENDERER": "synthetic", "FORGE_RUNNER_STEP_DELAY_SECONDS": "0.005"}


@dataclass(frozen=True, slots=True)
class Told:
    """What a user was told instead of an answer: who was away."""

    path: str
    dependency: str


@dataclass(slots=True)
class System:
    """The running system. `told` is every 503 since it was cleared."""

    settings: CommonSettings
    weather: Weather
    client: httpx.AsyncClient
    bus: Bus
    objects: ObjectStore
    services: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """An answer, however often one must ask. A 503 must say when to come again; nothing else may go wrong."""
        async with asyncio.timeout(STORY_SECONDS):
            while True:
                answer = await self.client.request(method, path, **options)
                if answer.status_code != 503:
                    assert answer.status_code < 400, answer.text
                    return answer
                assert int(answer.headers["retry-after"]) > 0
                self.told.append(Told(path, str(answer.json().get("dependency", answer.json()["code"]))))
                await asyncio.sleep(0.05)  # Retry-After is for people; here nobody else asks

    async def submit(self, **changes: object) -> str:
        """A job, with a key, so that asking again asks for the same one."""
        body: dict[str, object] = {"prompt": "a red circle", "model_id": "synthetic", "steps": 3, "images": 2}
        key = {"Idempotency-Key": ids.new_id()}
        return str((await self.ask("POST", "/v1/jobs", json=body | changes, headers=key)).json()["job_id"])

    async def ended(self, job_id: str) -> dict[str, Any]:
        """A job at its end, as the read tables show it."""

        async def look() -> dict[str, Any]:
            found: dict[str, Any] = (await self.ask("GET", f"/v1/jobs/{job_id}")).json()
            return found

        return await eventually(look, STORY_SECONDS, until=lambda job: job["status"] in ENDS)

    async def watched(self, job_id: str) -> list[str]:
        """The names of a finished job's facts as its event stream tells them."""
        lines = (await self.ask("GET", f"/v1/jobs/{job_id}/events")).text.splitlines()
        told = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
        return [name for name in told if name != "step"]

    async def facts(self, job_id: str) -> list[str]:
        """Every message of a job in the log, in order: what is there twice is seen twice."""
        found: list[str] = []
        async for batch in Follower(self.bus, "JOBS", (job_filter(job_id),)).batches():
            events = (unseal(m.subject, m.headers, m.data, sequence=m.sequence).event for m in batch.messages)
            found += [event.TOKEN for event in events]
            if batch.pending == 0:
                return found
        raise AssertionError("following ended")

    async def fetch(self, artifact: dict[str, Any]) -> None:
        """Fetch it as a user does: it must be the very bytes that the log promises."""
        redirect = await self.ask("GET", f"/v1/artifacts/{artifact['artifact_id']}")
        async with httpx.AsyncClient() as anybody:
            body = (await anybody.get(redirect.headers["location"])).raise_for_status().content
        assert hashlib.sha256(body).hexdigest() == artifact["sha256"]

    async def bring(self) -> None:
        """Bring a picture that nobody has brought before, and read it back."""
        out = io.BytesIO()
        Image.frombytes("RGB", (16, 16), os.urandom(16 * 16 * 3)).save(out, "PNG")
        headers = {"Content-Type": "image/png"}
        kept = (await self.ask("POST", "/v1/uploads", content=out.getvalue(), headers=headers)).json()
        redirect = await self.ask("GET", kept["url"])
        async with httpx.AsyncClient() as anybody:
            assert (await anybody.get(redirect.headers["location"])).content == out.getvalue()

    async def ready(self) -> bool:
        """Whether every service lives, the gateway has all it needs and the fleet is whole."""
        ended = {name: task for name, task in self.services.items() if task.done()}
        assert not ended, ended
        runners = await self.client.get("/v1/runners")
        models = await self.client.get("/v1/models")
        assert (await self.client.get("/readyz")).status_code == runners.status_code == models.status_code == 200
        alive = [each["runner_id"] for each in runners.json()["runners"] if each["heartbeat"]]
        return alive == ["r1"] and bool(models.json()["models"])

    async def collected(self) -> set[str]:
        """The keys of all pictures that are there once what a cancelled job left is collected."""
        url = self.settings.database_url.get_secret_value()
        collection = partial(collect, url, self.bus, self.objects, grace_seconds=0)
        await eventually(collection, until=lambda done: not done.behind)
        return {found.key for found in await self.objects.listed()}

    async def tables_equal_the_log(self) -> None:
        """Rows and checkpoints are what a fresh fold gives."""
        verified = await verify(self.settings)
        assert verified.equal, verified.first_difference


@asynccontextmanager
async def whole_system(folder: Path, weather: Weather) -> AsyncIterator[System]:
    """Everything, ready; stopped in order at the end, which must work too."""
    async with AsyncExitStack() as exits:
        servers = await exits.enter_async_context(EmbeddedStack(folder / "servers"))
        environment = servers.settings_env() | OWN | {"FORGE_STATE_DIR": str(folder)}
        named = {name.removeprefix("FORGE_").lower(): value for name, value in environment.items()}
        settings = CommonSettings(_env_file=None, **named)  # type: ignore[arg-type]
        listener = gateway.listen("127.0.0.1", 0)
        url = "http://{}:{}".format(*listener.getsockname()[:2])
        client = await exits.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30.0))
        bus = await bus_module.connect(settings.nats_url, "test")
        exits.push_async_callback(bus.close)
        system = System(settings, weather, client, bus, ObjectStore(settings))
        stop = asyncio.Event()
        starts: dict[str, Awaitable[None]] = {
            "gateway": gateway.serve(_as(GatewaySettings, named), listener, stop),
            "scheduler": scheduler.run(_as(SchedulerSettings, named), stop),
            "runner": runner.run(_as(RunnerSettings, named), stop),
            "projector": projector.run(_as(ProjectorSettings, named), stop),
        }
        system.services |= {name: asyncio.ensure_future(start) for name, start in starts.items()}
        try:
            await eventually(system.ready, READY_SECONDS, interval_seconds=0.1)
            yield system
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(*system.services.values()), 30)


def _as(kind: Callable[..., Any], named: dict[str, str]) -> Any:  # Any: four kinds of settings
    return kind(_env_file=None, **named)
