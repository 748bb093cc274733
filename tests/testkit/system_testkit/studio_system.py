"""A gateway and a projector over real servers, for a browser; what scheduler and runner would write, a test appends."""

import asyncio
import io
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from dreamforge.contracts.access import CreateKey, Scope, written_key
from dreamforge.contracts.events import (
    ArtifactStored,
    CancelRequested,
    Decision,
    Event,
    JobAssigned,
    JobCancelled,
    JobStarted,
    JobSucceeded,
    StepProgressed,
)
from dreamforge.contracts.installation_events import ModelRegistered, ModelRemoved
from dreamforge.contracts.log.envelope import seal
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.pictures.mp4 import metadata_boxes
from dreamforge.gateway import main as gateway
from dreamforge.gateway.http.server import listen
from dreamforge.gpu_runner.rendering.video import encode_h264, poster
from dreamforge.projector import main as projector
from dreamforge.runtime import clock, ids
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.log.aggregate import KEY
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.service import shell
from dreamforge.runtime.storage.objects import ObjectStore, object_key, sha256_of
from dreamforge.runtime.storage.settings import StorageSettings
from dreamforge.runtime.testing import eventually
from system_testkit.api_client import JOB_SECONDS, ApiClient
from system_testkit.oidc_provider import CLIENT_ID, CLIENT_SECRET, oidc_provider

READY_SECONDS = 60.0
SIDE_PX = 64
MODEL = ModelDescriptor(
    model_id="first",
    title="The first model",
    family="stable-diffusion",
    digest="0" * 64,
    vram=VramProfile(resident_bytes=2**30, denoise_bytes_per_latent=1, decode_bytes_per_px=1),
    presets=(
        Preset(name="small", width_px=SIDE_PX, height_px=SIDE_PX, steps=4, guidance_scale=2.0),
        Preset(name="wide", width_px=2 * SIDE_PX, height_px=SIDE_PX, steps=8, guidance_scale=5.0),
    ),
)
DECISION = Decision(waited_seconds=0.5, effective_priority=5, queue_length=1, required_bytes=1, candidates=())
# A delivery that fails is parked at once.
WEBHOOKS = {
    "FORGE_GATEWAY_WEBHOOK_KEY": "k" * 32,
    "FORGE_GATEWAY_WEBHOOK_NETWORKS": "127.0.0.1",
    "FORGE_GATEWAY_WEBHOOK_HTTP": "true",
    "FORGE_GATEWAY_WEBHOOK_GIVE_UP_SECONDS": "0",
}
RUNNER: dict[str, Any] = {"runner_id": "r1", "instance_id": "i1"}


def picture(seed: int, width_px: int = SIDE_PX, height_px: int = SIDE_PX) -> bytes:
    """A PNG of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (width_px, height_px), (seed % 256, seed // 256 % 256, 128)).save(out, "PNG")
    return out.getvalue()


def film(frames: int, frames_per_second: int) -> bytes:
    """A video of noise, as a runner writes one: H.264 in MP4, with a poster behind it."""
    pixels = random.Random(frames).randbytes(frames * SIDE_PX * SIDE_PX * 3)
    data = encode_h264(pixels, (SIDE_PX, SIDE_PX), frames_per_second=frames_per_second, quality=90)
    return data + metadata_boxes({}, comment="", xmp=b"", poster=poster(pixels, (SIDE_PX, SIDE_PX)))


@dataclass
class StudioSystem(ApiClient):
    """The running system: jobs wait until a test starts and finishes them.

    The gateway at `keyed_url` asks for keys or a sign-in at a provider, and all its paths have a prefix.
    """

    keyed_url: str
    servers: EmbeddedStack
    bus: Bus
    store: EventStore
    objects: ObjectStore

    async def submit(self, **changes: object) -> str:
        """A job; its id."""
        body: dict[str, object] = {"prompt": "a red circle", "model_id": "first"}
        return str((await self.request("POST", "/v1/jobs", json=body | changes)).json()["job_id"])

    async def submit_many(self, count: int, **changes: object) -> None:
        """Jobs that wait."""
        await asyncio.gather(*(self.submit(**changes) for _ in range(count)))

    async def register(self, model: ModelDescriptor) -> None:
        """A runner registers a model, and the gateway has heard of it."""
        await self._publish(ModelRegistered(at=clock.now(), descriptor=model), model.model_id)
        await eventually(self._models, JOB_SECONDS, until=lambda found: model.model_id in found)

    async def unregister(self, model_id: str) -> None:
        """A model is removed, and the gateway has heard of it."""
        await self._publish(ModelRemoved(at=clock.now()), model_id)
        await eventually(self._models, JOB_SECONDS, until=lambda found: model_id not in found)

    async def start(self, job_id: str) -> None:
        """Scheduler and runner begin the first attempt."""
        at = clock.now()
        assigned = JobAssigned(
            at=at, attempt=1, preset="small", estimated_vram_bytes=2**30, decision=DECISION, **RUNNER
        )
        await self._append(job_id, assigned)
        await self._append(job_id, JobStarted(at=at, attempt=1, **RUNNER))
        await self._until(job_id, "running")

    async def step(self, job_id: str, step: int, steps: int = 4) -> None:
        """The runner reports a step."""
        times: dict[str, Any] = {"at": clock.now(), "elapsed_seconds": step * 0.1, "eta_seconds": 1.0}
        event = StepProgressed(attempt=1, image_index=0, images=1, step=step, steps=steps, **times)
        await self._publish(event, job_id)

    async def store_image(self, job_id: str, index: int, data: bytes) -> None:
        """The runner has finished one image."""
        await self._append(job_id, await self._stored(index, data))

    async def finish(self, job_id: str, *images: bytes) -> None:
        """The runner stores its images, and the job has succeeded in the tables."""
        facts = [await self._stored(index, data) for index, data in enumerate(images)]
        hashes = tuple(sha256_of(data) for data in images)
        done = JobSucceeded(at=clock.now(), attempt=1, artifacts=hashes, render_seconds=0.4)
        await self._append(job_id, *facts, done)
        await self._until(job_id, "succeeded")

    async def finished_job(self, *images: bytes, **changes: object) -> str:
        """A job from its request to its images; its id."""
        job_id = await self.submit(images=len(images), **changes)
        await self.start(job_id)
        await self.finish(job_id, *images)
        return job_id

    async def cancel(self, job_id: str) -> None:
        """A job that runs is over."""
        now = clock.now()
        await self._append(job_id, CancelRequested(at=now, attempt=1), JobCancelled(at=now, attempt=1, stage="running"))
        await self._until(job_id, "cancelled")

    async def cancel_waiting(self) -> None:
        """Every job that waits is over."""
        while waiting := (await self.request("GET", "/v1/jobs?status=queued&limit=200")).json()["jobs"]:
            now = clock.now()
            ended = (CancelRequested(at=now), JobCancelled(at=now, stage="queued"))
            await asyncio.gather(*(self._append(job["job_id"], *ended) for job in waiting))
            await asyncio.gather(*(self._until(job["job_id"], "cancelled") for job in waiting))

    async def parked_delivery(self, url: str) -> tuple[str, str]:
        """A webhook, and a job of which it did not get the end, once the gateway shows that: their ids."""
        body = {"url": url, "name": "shop"}
        webhook_id = str((await self.request("POST", "/v1/webhooks", json=body)).json()["webhook_id"])
        job_id = await self.finished_job(picture(14))

        async def parked() -> bool:
            return bool((await self.request("GET", f"/v1/webhooks/{webhook_id}")).json()["parked"] == 1)

        await eventually(parked, JOB_SECONDS)
        return webhook_id, job_id

    async def new_key(self, tenant: str) -> str:
        """An API key of a tenant, once the gateway that asks for keys knows it."""
        key_id, secret = ids.new_key_id(), ids.new_key_secret()
        scopes = frozenset((Scope.READ, Scope.SUBMIT))
        await self.store.handle(KEY, key_id, CreateKey(clock.now(), secret, "test", tenant, scopes))
        key = written_key(key_id, secret)
        async with httpx.AsyncClient(base_url=self.keyed_url, headers={"Authorization": f"Bearer {key}"}) as client:
            await eventually(lambda: client.get("/v1/me"), JOB_SECONDS, until=lambda reply: reply.status_code == 200)
        return key

    async def _stored(self, index: int, data: bytes) -> ArtifactStored:
        sha256, content_type = sha256_of(data), "video/mp4" if data[4:8] == b"ftyp" else "image/png"
        await self.objects.put(object_key(sha256), data, content_type)
        return ArtifactStored(
            at=clock.now(),
            attempt=1,
            index=index,
            sha256=sha256,
            size_bytes=len(data),
            content_type=content_type,
            width_px=SIDE_PX,
            height_px=SIDE_PX,
            seed=7 + index,
            recipe={"seed": 7 + index, "prompt": "a red circle"},
        )

    async def _append(self, job_id: str, *facts: Event) -> None:
        version = (await self.store.load(job_id)).version
        await self.store.append(job_id, facts, expected=version)

    async def _publish(self, event: Event, entity_id: str) -> None:
        envelope = seal(event, entity_id=entity_id, event_id=ids.new_id(), source="/test")
        await self.bus.js.publish(envelope.subject, envelope.data, headers=envelope.headers)

    async def _until(self, job_id: str, status: str) -> None:
        await eventually(lambda: self.job(job_id), JOB_SECONDS, until=lambda job: job["status"] == status)

    async def _models(self) -> list[str]:
        found = (await self.request("GET", "/v1/models")).json()["models"]
        return [each["descriptor"]["model_id"] for each in found]


@asynccontextmanager
async def studio_system(folder: Path) -> AsyncIterator[StudioSystem]:
    """A system that is ready and has a model."""
    async with AsyncExitStack() as exits:
        servers = await exits.enter_async_context(EmbeddedStack(folder / "servers"))
        environment = servers.settings_env() | {"FORGE_STATE_DIR": str(folder)} | WEBHOOKS
        named = {name.removeprefix("FORGE_").lower(): value for name, value in environment.items()}
        settings = StorageSettings(_env_file=None, **named)  # type: ignore[arg-type]
        url = await exits.enter_async_context(_serving(named, projector.SERVICE))
        client = await exits.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30.0))
        await eventually(lambda: _ready(client), READY_SECONDS)
        provider = await exits.enter_async_context(oidc_provider())
        own = {
            "gateway_auth": "keys,oidc",
            "gateway_root_path": "/forge",
            "gateway_session_secret": ids.new_key_secret(),
        }
        own |= {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT_ID, "oidc_client_secret": CLIENT_SECRET}
        keyed_url = await exits.enter_async_context(_serving(named | own)) + own["gateway_root_path"]
        provider.redirect_uris.add(f"{keyed_url}/v1/session/oidc/callback")
        bus = await open_log(settings, "test")
        exits.push_async_callback(bus.close)
        system = StudioSystem(client, keyed_url, servers, bus, EventStore(bus, "/test"), ObjectStore(settings))
        await system.register(MODEL)
        yield system


@asynccontextmanager
async def _serving(named: dict[str, str], *others: shell.Service[Any]) -> AsyncIterator[str]:
    """The address of a gateway, with other services beside it; at the end they are stopped in order."""
    listener = listen("127.0.0.1", 0)
    stop = asyncio.Event()
    own_listener = replace(gateway.SERVICE, start=partial(gateway.answer, listener=listener))
    services: tuple[shell.Service[Any], ...] = (own_listener, *others)
    serving = [
        asyncio.create_task(shell.serve(each, each.settings(_env_file=None, **named), stop)) for each in services
    ]
    try:
        yield "http://{}:{}".format(*listener.getsockname()[:2])
    finally:
        stop.set()
        await asyncio.wait_for(asyncio.gather(*serving), 30)


async def _ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).status_code == 200
