"""A real NATS, and runners that only send heartbeats and answer assignments: the real protocol without torch."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from dreamforge.contracts.errors import Conflict, DependencyAway
from dreamforge.contracts.events import ArtifactStored, JobAssigned
from dreamforge.contracts.fleet import LEASE_SECONDS, ActiveAttempt, Device, Heartbeat
from dreamforge.contracts.installation_events import ModelRegistered, RunnerRegistered
from dreamforge.contracts.jobs.decisions import FinishAttempt, RequestJob, StartAttempt
from dreamforge.contracts.log.envelope import unseal
from dreamforge.contracts.log.subjects import assignments_to
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.observed_memory import ObservedMemory
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.runtime import ids
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import NATS_ERRORS, Bus, connect
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.service.tasks import cancel
from dreamforge.runtime.testing import eventually
from dreamforge.scheduler.scheduler import Scheduler
from dreamforge.scheduler.settings import SchedulerSettings

MODEL = ModelDescriptor(
    model_id="tiny",
    family="synthetic",
    digest="0" * 64,
    vram=VramProfile(resident_bytes=100, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
    presets=(Preset(name="fast", width_px=64, height_px=64, steps=2, guidance_scale=1.0),),
)


def now() -> datetime:
    return datetime.now(UTC)


def request(**changes: object) -> RenderRequest:
    told = {
        "model_id": "tiny",
        "preset": "fast",
        "prompt": "a fox",
        "width_px": 64,
        "height_px": 64,
        "steps": 2,
        "guidance_scale": 1.0,
        "seed": 1,
    }
    return RenderRequest.model_validate(told | changes)


@dataclass
class FakeRunner:
    """Beats, takes its assignments, finishes them at once unless told to `hold` (keep) or `ignore` (never start)."""

    bus: Bus
    runner_id: str
    slots: int = 1
    behaviour: str = "finish"
    times: MeasuredTimes = field(default_factory=MeasuredTimes)
    memory: ObservedMemory = field(default_factory=ObservedMemory)
    instance_id: str = field(default_factory=ids.new_id)
    taken: list[JobAssigned] = field(default_factory=list)
    job_ids: set[str] = field(default_factory=set)
    active: dict[str, int] = field(default_factory=dict)
    listening: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    async def start(self) -> "FakeRunner":
        self.store = EventStore(self.bus, f"/dreamforge/runner/{self.runner_id}")
        self._tasks = [asyncio.create_task(self._work())]
        await self.listening.wait()  # before anybody can know of it
        await self.heartbeat()
        self._tasks.append(asyncio.create_task(self._heartbeats()))
        return self

    def now(self) -> datetime:
        return now()

    async def register(self) -> None:
        device = Device(kind="cpu", name="fake", total_bytes=1000)
        came = RunnerRegistered(
            at=now(),
            instance_id=self.instance_id,
            renderer="fake",
            device=device,
            slots=self.slots,
            model_ids=("tiny",),
        )
        await self.store.append(self.runner_id, [came], expected=0)

    async def kill(self) -> None:
        """Go silent, as after kill -9."""
        await cancel(*self._tasks)

    async def heartbeat(self, seconds: int = LEASE_SECONDS) -> None:
        sent = Heartbeat(
            runner_id=self.runner_id,
            instance_id=self.instance_id,
            at=now(),
            renderer="fake",
            device=Device(kind="cpu", name="fake", total_bytes=1000),
            budget_bytes=1000,
            free_bytes=1000,
            slots=self.slots,
            model_ids=("tiny",),
            times=self.times,
            memory=self.memory,
            active=tuple(ActiveAttempt(job_id=job, attempt=attempt) for job, attempt in self.active.items()),
        )
        await self.bus.js.publish(f"$KV.runners.{self.runner_id}", sent.model_dump_json().encode(), msg_ttl=seconds)

    async def _heartbeats(self) -> None:
        while True:
            with contextlib.suppress(*NATS_ERRORS):
                await self.heartbeat()
            await asyncio.sleep(1)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            follower = Follower(self.bus, "JOBS", (assignments_to(self.runner_id),), new_only=True)
            async for batch in follower.batches():
                self.listening.set()
                for m in batch.messages:
                    recorded = unseal(m.subject, m.headers, m.data, sequence=m.sequence)
                    event = recorded.event
                    assert isinstance(event, JobAssigned)
                    if event.instance_id == self.instance_id:
                        self.taken.append(event)
                        self.job_ids.add(recorded.entity_id)
                        group.create_task(self._attempt(recorded.entity_id, event, self.behaviour))

    async def _attempt(self, job_id: str, event: JobAssigned, behaviour: str) -> None:
        """As the runner behaved when it took the assignment, whatever a test tells it afterwards."""
        self.active[job_id] = event.attempt
        if behaviour == "ignore":
            return
        with contextlib.suppress(Conflict):
            start = StartAttempt(now(), event.attempt, self.runner_id, self.instance_id)
            started = await self.store.execute(job_id, start)
            if behaviour == "hold":
                return
            done = FinishAttempt(now(), event.attempt, (artifact(event.attempt),), 0.0)
            assert started.state.attempt == event.attempt
            await self.store.execute(job_id, done)
        self.active.pop(job_id, None)


def artifact(attempt: int) -> ArtifactStored:
    return ArtifactStored(
        at=now(),
        attempt=attempt,
        index=0,
        sha256="0" * 64,
        size_bytes=1,
        content_type="image/png",
        width_px=64,
        height_px=64,
        seed=1,
        recipe={},
    )


@dataclass
class Forge:
    """A NATS with our streams and one model, and whatever a test starts on it."""

    url: str
    bus: Bus
    store: EventStore
    runners: list[FakeRunner] = field(default_factory=list)
    schedulers: list[tuple[Scheduler, Bus, "list[asyncio.Task[None]]"]] = field(default_factory=list)

    async def runner(self, runner_id: str, **options: object) -> FakeRunner:
        runner = FakeRunner(await connect(self.url, runner_id), runner_id, **options)  # type: ignore[arg-type]
        self.runners.append(runner)
        return await runner.start()

    async def scheduler(self, **settings: object) -> Scheduler:
        bus = await connect(self.url, "scheduler")
        told = SchedulerSettings.model_validate({"nats_url": self.url, **settings})
        scheduler = Scheduler(bus, told, ids.new_id())
        tasks = [asyncio.create_task(loop, name=name) for name, loop in scheduler.loops().items()]
        self.schedulers.append((scheduler, bus, tasks))
        await asyncio.wait_for(scheduler.ready.wait(), 10)
        return scheduler

    async def submit(self, **changes: object) -> str:
        job_id = ids.new_id()
        deadlines = changes.pop("deadlines", None)
        tenant = str(changes.pop("tenant", "default"))
        priority = int(str(changes.pop("priority", 5)))
        command = RequestJob(job_id, now(), tenant, priority, request(**changes), deadlines=deadlines)
        await self.store.execute(job_id, command)
        return job_id

    async def try_submit(self) -> str:
        """A job id once the broker answers; "" until then."""
        try:
            return await self.submit()
        except DependencyAway:
            return ""

    async def status(self, job_id: str) -> str:
        return str((await self.store.load(job_id)).state.status)

    async def stop(self, scheduler: Scheduler) -> None:
        """As SIGTERM does."""
        entry = next(entry for entry in self.schedulers if entry[0] is scheduler)
        self.schedulers.remove(entry)
        _, bus, tasks = entry
        await cancel(*tasks)
        await scheduler.close()
        await bus.close()

    async def kill(self, scheduler: Scheduler) -> None:
        """As kill -9 does: the connection breaks, nothing is given back."""
        bus = next(bus for found, bus, _ in self.schedulers if found is scheduler)
        await bus.nc.close()

    async def drop_heartbeat(self, runner_id: str) -> None:
        """End a runner's lease as if it had run out."""
        await self.bus.js.publish(f"$KV.runners.{runner_id}", b"", headers={"KV-Operation": "PURGE"})

    async def gone(self, runner_id: str) -> None:
        """Wait for a runner's lease to run out."""
        key = f"$KV.runners.{runner_id}"

        async def alive() -> bool:
            found = await direct_get.last_of_each(self.bus, "KV_runners", key)
            return bool(found and found[-1].data)

        await eventually(alive, 15, until=lambda still: not still)

    async def close(self) -> None:
        for scheduler in [entry[0] for entry in self.schedulers]:
            await self.stop(scheduler)
        for runner in self.runners:
            await runner.kill()
            await runner.bus.close()
        await self.bus.close()


@pytest.fixture
async def forge(nats_url: str) -> AsyncIterator[Forge]:
    bus = await connect(nats_url, "test")
    await ensure_streams(bus)
    store = EventStore(bus, "/dreamforge/test/1")
    forge = Forge(nats_url, bus, store)
    await store.append("tiny", [ModelRegistered(at=now(), descriptor=MODEL)], expected=0)
    yield forge
    await forge.close()
