"""What the tests of a running gateway share: the gateway on a real socket, and a stand-in for the other services."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
from psycopg.types.json import Jsonb

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
from dreamforge.contracts.fleet import LEASE_SECONDS, Device, Heartbeat
from dreamforge.contracts.installation_events import ModelRegistered, ModelRemoved
from dreamforge.contracts.log.envelope import seal
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.stored_objects import object_key
from dreamforge.contracts.tables import CHECKPOINT_CHANNEL
from dreamforge.gateway.http.server import listen
from dreamforge.gateway.main import answer
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.testing import eventually

MODEL = ModelDescriptor(
    model_id="m",
    family="sd",
    digest="0" * 64,
    side_px_max=128,
    vram=VramProfile(resident_bytes=2**30, denoise_bytes_per_latent=1, decode_bytes_per_px=1),
    presets=(
        Preset(name="small", width_px=64, height_px=64, steps=4, guidance_scale=2.0),
        Preset(name="wide", width_px=128, height_px=64, steps=8, guidance_scale=5.0),
    ),
)
DECISION = Decision(waited_seconds=0.5, effective_priority=5, queue_length=1, required_bytes=1, candidates=())
BODY = {"prompt": "a red circle", "seed": 7}


@dataclass(slots=True)
class SimulatedSystem:
    """The other services, simulated by the test: it writes what runners, scheduler and projector would write."""

    settings: GatewaySettings
    bus: Bus
    store: EventStore
    versions: dict[str, int] = field(default_factory=dict)

    async def register(self, model: ModelDescriptor) -> None:
        """A runner registers a model."""
        event = ModelRegistered(at=clock.now(), descriptor=model)
        envelope = seal(event, entity_id=model.model_id, event_id=ids.new_id(), source="/test")
        await self.bus.js.publish(envelope.subject, envelope.data, headers=envelope.headers)

    async def unregister(self, model_id: str) -> None:
        """Somebody removes a model."""
        envelope = seal(ModelRemoved(at=clock.now()), entity_id=model_id, event_id=ids.new_id(), source="/test")
        await self.bus.js.publish(envelope.subject, envelope.data, headers=envelope.headers)

    async def append(self, job_id: str, *events: Event) -> int:
        """Facts about a job, at its current version."""
        version = (await self.store.load(job_id)).version
        return await self.store.append(job_id, events, expected=version)

    async def start(self, job_id: str, attempt: int = 1) -> None:
        """Scheduler and runner begin an attempt."""
        who: dict[str, Any] = {"at": clock.now(), "attempt": attempt, "runner_id": "r1", "instance_id": "i1"}
        assigned = JobAssigned(**who, preset="small", estimated_vram_bytes=2**30, decision=DECISION)
        await self.append(job_id, assigned)
        await self.append(job_id, JobStarted(**who))

    async def step(self, job_id: str, step: int, steps: int = 4, attempt: int = 1) -> None:
        """The runner reports a step."""
        event = StepProgressed(
            at=clock.now(),
            attempt=attempt,
            image_index=0,
            images=1,
            step=step,
            steps=steps,
            elapsed_seconds=step * 0.1,
            eta_seconds=0,
        )
        envelope = seal(event, entity_id=job_id, event_id=ids.new_id(), source="/test")
        await self.bus.js.publish(envelope.subject, envelope.data, headers=envelope.headers)

    async def finish(self, job_id: str, attempt: int = 1) -> int:
        """The runner has stored its picture."""
        stored = ArtifactStored(
            at=clock.now(),
            attempt=attempt,
            index=0,
            sha256="a" * 64,
            size_bytes=3,
            content_type="image/png",
            width_px=64,
            height_px=64,
            seed=7,
            recipe={"seed": 7},
        )
        done = JobSucceeded(at=clock.now(), attempt=attempt, artifacts=("a" * 64,), render_seconds=0.4)
        return await self.append(job_id, stored, done)

    async def cancel(self, job_id: str) -> int:
        """A short life, for tests that only need an end."""
        now, state = clock.now(), (await self.store.load(job_id)).state
        asked = () if state.cancel_requested else (CancelRequested(at=now, attempt=state.attempt),)
        return await self.append(job_id, *asked, JobCancelled(at=now, attempt=state.attempt, stage="queued"))

    async def sql(self, statement: str, *values: object) -> None:
        """What the projector does to its tables."""
        async with await psycopg.AsyncConnection.connect(
            self.settings.database_url.get_secret_value(), autocommit=True
        ) as connection:
            await connection.execute(statement, values or None)  # type: ignore[arg-type]

    async def empty_tables(self) -> None:
        """No row is left of a job; checkpoints stay, for the gateway has read them."""
        for table in ("artifacts", "attempts", "batches", "events", "job_inputs", "jobs", "steps"):
            await self.sql(f"DELETE FROM {table}")

    async def insert(self, table: str, **row: object) -> None:
        """One row."""
        values = [Jsonb(value) if isinstance(value, dict | list) else value for value in row.values()]
        names = ", ".join(f'"{name}"' for name in row)
        await self.sql(f"INSERT INTO {table} ({names}) VALUES ({', '.join(['%s'] * len(row))})", *values)

    async def project_to(self, sequence: int) -> None:
        """Move the checkpoint and say so, in one transaction."""
        await self.sql(
            "WITH moved AS (INSERT INTO checkpoints (stream, sequence, at) VALUES ('JOBS', %s, now())"
            " ON CONFLICT (stream) DO UPDATE SET sequence = excluded.sequence RETURNING sequence)"
            " SELECT pg_notify(%s, 'JOBS ' || sequence) FROM moved",
            sequence,
            CHECKPOINT_CHANNEL,
        )

    async def project(self, job_id: str) -> None:
        """The projector has read a job as it is now."""
        await self.project_to(await self.project_rows(job_id))

    async def project_rows(self, job_id: str) -> int:
        """Its rows alone, as a part of what the projector writes in one transaction; its version."""
        loaded = await self.store.load(job_id)
        state = loaded.state
        await self.sql("DELETE FROM events WHERE job_id = %s", job_id)
        await self.sql("DELETE FROM jobs WHERE job_id = %s", job_id)
        await self.insert_job(
            job_id, tenant=state.tenant, status=state.status, attempt=state.attempt, runner_id=state.runner_id
        )
        for recorded in loaded.history:
            event = recorded.event
            await self.insert(
                "events",
                sequence=recorded.sequence,
                job_id=job_id,
                attempt=event.attempt,
                type=event.TYPE,
                event_id=recorded.event_id,
                source=recorded.source,
                at=event.at,
                payload=Jsonb(event.model_dump(mode="json")),
            )
        return loaded.version

    async def insert_job(self, job_id: str, **changes: object) -> None:
        """A row of the table jobs, as the projector would have it right after the request."""
        request = {
            "model_id": "m",
            "preset": "small",
            "prompt": "a red circle",
            "negative_prompt": "",
            "width_px": 64,
            "height_px": 64,
            "steps": 4,
            "guidance_scale": 2.0,
            "seed": 7,
            "images": 1,
        }
        row: dict[str, object] = {
            "job_id": job_id,
            "version": 1,
            "tenant": "default",
            "status": "queued",
            "priority": 5,
            "model_id": "m",
            "preset": "small",
            "request": request,
            "attempt": 0,
            "cancel_requested": False,
            "requested_at": clock.now(),
        }
        await self.insert("jobs", **(row | changes))

    async def insert_artifact(self, job_id: str, **changes: object) -> None:
        """A row of the table artifacts, as the projector would have it after the job's success."""
        row: dict[str, object] = {
            "artifact_id": f"{job_id}-1-0",
            "job_id": job_id,
            "attempt": 1,
            "index": 0,
            "visible": True,
            "sha256": "a" * 64,
            "object_key": object_key("a" * 64),
            "size_bytes": 3,
            "content_type": "image/png",
            "width_px": 64,
            "height_px": 64,
            "seed": 7,
            "recipe": {},
            "stored_at": clock.now(),
        }
        await self.insert("artifacts", **(row | changes))


@dataclass(frozen=True, slots=True)
class Seen:
    """One event as a client gets it."""

    id: str
    event: str
    data: dict[str, Any]


async def events(response: httpx.Response) -> AsyncIterator[Seen]:
    """The events of an open stream; comments are passed over."""
    found: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
        else:
            if "data" in found:
                yield Seen(found["id"], found["event"], json.loads(found["data"]))
            found = {}


async def watch(client: httpx.AsyncClient, job_id: str, last_id: str = "", count: int | None = None) -> list[Seen]:
    """Everything until the stream ends, or the first `count` events."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    seen: list[Seen] = []
    async with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
        assert response.status_code in (200, 204), await response.aread()
        async for each in events(response):
            seen.append(each)
            if len(seen) == count:
                break
    return seen


def settings_of(env: dict[str, str], **changes: object) -> GatewaySettings:
    """The settings that these variables make."""
    named = {name.removeprefix("FORGE_").lower(): value for name, value in env.items()}
    return GatewaySettings(_env_file=None, **(named | changes))  # type: ignore[call-arg, arg-type]


@contextlib.asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A gateway in this loop: its base URL, and the event that stops it as SIGTERM would."""
    stop = asyncio.Event()
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    task = asyncio.create_task(Lifetime(stop).run(lambda lifetime: answer(settings, lifetime, listener)))
    try:
        yield f"http://127.0.0.1:{port}", stop
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def ready(client: httpx.AsyncClient) -> None:
    """Await readiness."""

    async def checks() -> dict[str, Any]:
        found: dict[str, Any] = (await client.get("/readyz")).json()
        return found

    await eventually(checks, 20.0, until=lambda found: bool(found["ready"]))


async def models(client: httpx.AsyncClient) -> list[Any]:
    """The catalogue as it is now."""
    found: list[Any] = (await client.get("/v1/models")).json()["models"]
    return found


def heartbeat(
    runner_id: str, *, budget_bytes: int = 8 * 2**30, slots: int = 1, models: tuple[str, ...] = ("m",)
) -> Heartbeat:
    return Heartbeat(
        runner_id=runner_id,
        instance_id="i1",
        at=clock.now(),
        renderer="synthetic",
        device=Device(kind="cpu", name="test", total_bytes=budget_bytes),
        budget_bytes=budget_bytes,
        free_bytes=budget_bytes,
        slots=slots,
        model_ids=models,
        resident_model_ids=models[:1],
    )


async def beat(system: SimulatedSystem, client: httpx.AsyncClient, *beats: Heartbeat) -> None:
    """Runners say what they are, and the gateway has heard it."""
    for each in beats:
        await system.bus.js.publish(
            f"$KV.runners.{each.runner_id}", each.model_dump_json().encode(), msg_ttl=float(LEASE_SECONDS)
        )

    async def alive() -> bool:
        runners = (await client.get("/v1/runners")).json()["runners"]
        return {b.runner_id for b in beats} <= {r["runner_id"] for r in runners if r["heartbeat"]}

    await eventually(alive)
