"""The runner's bus side, put together: its identity, its parts, what runs beside what, and in which order it ends."""

import asyncio
import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from loguru import logger

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.fleet import HEARTBEAT_SECONDS, DeviceHealth, Heartbeat
from dreamforge.contracts.installation_events import RunnerRegistered, RunnerStopped
from dreamforge.gpu_runner.machine.device import LocalDevice, make_uvm_device, probe, refresh
from dreamforge.gpu_runner.machine.device_lock import DeviceLock, lock_folder
from dreamforge.gpu_runner.machine.device_watch import DeviceWatch
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.gpu_runner.supervisor.admission import RunnerIdentity
from dreamforge.gpu_runner.supervisor.artifact_uploader import ArtifactUploader
from dreamforge.gpu_runner.supervisor.assignment_consumer import ensure_consumer
from dreamforge.gpu_runner.supervisor.attempt import AttemptServices
from dreamforge.gpu_runner.supervisor.attempt_manager import CLOSE_SECONDS, AttemptManager
from dreamforge.gpu_runner.supervisor.child_process import child_options
from dreamforge.gpu_runner.supervisor.child_supervisor import ChildSupervisor
from dreamforge.gpu_runner.supervisor.ending_attempts import EndingAttempts
from dreamforge.gpu_runner.supervisor.heartbeat import (
    HeartbeatPublisher,
    RunnerActivity,
    budget_bytes,
    heartbeat_of,
    public_device,
)
from dreamforge.gpu_runner.supervisor.input_cache import InputCache
from dreamforge.gpu_runner.supervisor.interrupts import Interrupts
from dreamforge.gpu_runner.supervisor.learnt_memory import LearntMemory
from dreamforge.gpu_runner.supervisor.model_offer import ModelOffer
from dreamforge.gpu_runner.supervisor.model_read_ahead import ModelReadAhead
from dreamforge.gpu_runner.supervisor.models_watcher import ModelsWatcher
from dreamforge.gpu_runner.supervisor.picture_signing import picture_signing
from dreamforge.gpu_runner.supervisor.progress_publisher import ProgressPublisher
from dreamforge.gpu_runner.supervisor.registration import RunnerRegistration
from dreamforge.gpu_runner.supervisor.render_slots import RenderSlots
from dreamforge.gpu_runner.supervisor.render_tasks import RenderTaskFactory
from dreamforge.gpu_runner.supervisor.run_times import RunTimes
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.bus import NATS_ERRORS, Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.remote.objects import RemoteObjects
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.storage.bucket_owner import ClaimedBucket
from dreamforge.runtime.storage.objects import ObjectStore

if TYPE_CHECKING:
    from faststream.nats import NatsBroker


@dataclass(slots=True)
class Supervisor:
    """One runner process. Nothing here imports torch."""

    settings: RunnerSettings
    bus: Bus
    objects: ObjectStore | RemoteObjects
    store: EventStore = field(init=False)
    bucket: ClaimedBucket = field(init=False)
    times: RunTimes = field(init=False)
    memory: LearntMemory = field(init=False)
    child: ChildSupervisor = field(init=False)
    attempts: AttemptManager = field(init=False)
    ending: EndingAttempts = field(init=False)
    heartbeat: HeartbeatPublisher = field(init=False)
    progress: ProgressPublisher = field(init=False)
    registration: RunnerRegistration = field(init=False)
    offer: ModelOffer = field(init=False)
    interrupts: Interrupts = field(init=False)
    read_ahead: ModelReadAhead = field(init=False)
    device: LocalDevice = field(init=False)
    #: Over which assignments come, once they can.
    broker: "NatsBroker | None" = None
    #: What the driver says of a GPU; None: it is none.
    watch: DeviceWatch | None = None
    health: DeviceHealth = field(default_factory=DeviceHealth)
    #: Whether a child of this process has rendered on the GPU: one that then finds none has lost it.
    rendered_on_gpu: bool = False
    #: Set once the first assignment can be taken.
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        settings = self.settings
        identity = RunnerIdentity(settings.runner_id, ids.new_id(), frozenset())
        source = f"/dreamforge/gpu-runner/{identity.runner_id}"
        self.store = EventStore(self.bus, source)
        self.bucket = ClaimedBucket(self.objects)
        self.times = RunTimes()
        self.progress = ProgressPublisher(self.bus, source)
        self.registration = RunnerRegistration(self.bus, self.store)
        self.offer = ModelOffer(settings, self.registration, on_offer=self._offer)
        learnt = settings.state_dir / "learnt-memory" / f"{settings.runner_id}.json"
        self.memory = LearntMemory(learnt, now=clock.now)
        self.child = ChildSupervisor(
            child_options(settings),
            on_change=self._child_changed,
            on_loaded=self.times.loaded,
            on_learnt=self.memory.learn,
        )
        files = self.offer.models if settings.runner_renderer == "diffusers" else {}
        self.read_ahead = ModelReadAhead(files, resident=lambda: self.child.resident)
        self.heartbeat = HeartbeatPublisher(
            self.bus, identity.runner_id, heartbeat=self._heartbeat, refresh=self._refresh
        )
        # Of many slots (of the synthetic renderer) some are free anyway, and each heartbeat costs every reader.
        tell = self.heartbeat.notify_at_once if settings.runner_slots == 1 else self.heartbeat.notify
        self.ending = EndingAttempts(settings.ending_max, on_change=tell)
        self.attempts = AttemptManager(identity, self._services(), on_change=self.heartbeat.notify)
        self.interrupts = Interrupts(self.bus, self.attempts)

    async def start(self, lifetime: Lifetime) -> None:
        """Begin to send heartbeats and to serve. When told to stop, attempts are drained before the parts end."""
        self.device = await asyncio.to_thread(self._probe)
        logger.info("found {}", self.device)
        self.memory.open(f"{self.device.name}, {self.device.total_bytes} bytes")
        self.times.resume(self.memory.times)
        if self.device.kind == "cuda":
            await self._lock_device(lifetime)
            self.watch = DeviceWatch(self.settings.runner_gpu_index)
            await asyncio.to_thread(make_uvm_device)
        if self.device.note:
            logger.warning("{}", self.device.note)
        lifetime.on_close(self._close)
        lifetime.spawn(self.child.run(), "child", cleanup_seconds=CLOSE_SECONDS)
        lifetime.spawn(self.heartbeat.run(), "heartbeat")
        lifetime.spawn(self.interrupts.run(), "interrupts")
        lifetime.spawn(self._look_at_health(), "health of the device", may_end=True)
        lifetime.spawn(self.attempts.renew(), "renewals")
        lifetime.spawn(self.read_ahead.listen(self.bus, self.settings.runner_id), "hints")
        watcher = ModelsWatcher(self.bus, self.look_again, self.offer.is_outdated)
        lifetime.spawn(watcher.run(), "models watcher")
        lifetime.spawn(self._open(), "opening", may_end=True)
        lifetime.on_close(partial(self._leave, lifetime))

    async def _lock_device(self, lifetime: Lifetime) -> None:
        """Errors: DeviceInUse."""
        shares = self.settings.runner_device_shares
        lock = DeviceLock(lock_folder(os.environ), self.device, shares=shares)
        await lock.acquire(f"runner {self.settings.runner_id} (process {os.getpid()})")
        lifetime.on_close(partial(asyncio.to_thread, lock.release))

    async def check(self) -> None:
        """Readiness. Errors: DependencyAway while no assignment can be taken."""
        if self.health.state == "fenced":
            raise DependencyAway(dependency="child", reason=f"the device may not be used: {self.health.reason}")
        if not (self.ready.is_set() and self.child.accepting):
            raise DependencyAway(dependency="child", reason="the renderer is not up")

    async def look_again(self) -> None:
        """Offer the models that are on the disk now, and record it where that changed."""
        if await self.offer.discover() and self.ready.is_set():
            self.child.know(self.offer.offered)
            await self.registration.runner(self.settings.runner_id, self._registered())
            self.heartbeat.notify()
            logger.info("the models changed: {}", ", ".join(sorted(self.offer.offered_ids)) or "none is left")

    async def _open(self) -> None:
        """Find the models, register, and begin to take assignments."""
        await asyncio.gather(self.offer.discover(build=True), self.bucket.claim(self.bus))
        self.child.offer(self.offer.offered)
        self.read_ahead.want(*(model.descriptor.model_id for model in self.offer.offered[:1]))
        await self.registration.runner(self.settings.runner_id, self._registered())
        broker = self.broker = self._assignments()
        await self.child.wait_ready()
        await self.interrupts.following.wait()
        await retry.until_it_works("the assignments", lambda: self._subscribe(broker), *_UNAVAILABLE)
        self.ready.set()
        self.heartbeat.notify()
        models = ", ".join(self.offer.models) or "no model"
        logger.info("gpu-runner is ready: {} with {}", self.settings.runner_id, models)

    def _offer(self, model_ids: frozenset[str]) -> None:
        self.attempts.identity = replace(self.attempts.identity, model_ids=model_ids)

    def _assignments(self) -> "NatsBroker":
        """Imported while the child starts, after what those wait for who submit: FastStream is 0.25 s of a start."""
        from dreamforge.gpu_runner.supervisor.assignments import assignments_broker

        return assignments_broker(
            self.settings.nats_url,
            self.settings.runner_id,
            self.attempts.take,
            self.bus.names,
            seed_file=self.settings.nats_seed_file,
            ca_file=self.settings.nats_ca_file,
        )

    async def _subscribe(self, broker: "NatsBroker") -> None:
        attempts = self.settings.attempts_max + self.settings.ending_max
        await ensure_consumer(self.bus, self.settings.runner_id, attempts=attempts)
        await broker.start()

    async def _leave(self, lifetime: Lifetime) -> None:
        if not lifetime.stopping:
            return  # a part failed: the lease ends what this runner holds
        self.heartbeat.notify()
        await self.attempts.drain(self.settings.runner_drain_seconds)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._unregister()
        except TimeoutError:
            logger.warning("stopping without a record of it: NATS is unavailable")

    async def _unregister(self) -> None:
        await self.heartbeat.stop()
        identity = self.attempts.identity
        await self.registration.runner(
            identity.runner_id, RunnerStopped(at=clock.now(), instance_id=identity.instance_id)
        )

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self.broker is not None:
                    await self.broker.stop()
                await self.store.close()
        except (TimeoutError, *NATS_ERRORS) as error:
            logger.warning("the connection did not close in order: {}", str(error) or type(error).__name__)

    def _services(self) -> AttemptServices:
        return AttemptServices(
            store=self.store,
            child=self.child,
            uploads=ArtifactUploader(self.objects),
            sign=picture_signing(self.settings),
            progress=self.progress,
            times=self.times,
            tasks=RenderTaskFactory(
                self.offer.models,
                InputCache(self.objects, self.settings.state_dir / "uploads"),
                self.settings.runner_preview_seconds or None,
                self.settings.batch_max,
                lambda: budget_bytes(self.device, self.child.resident, self.settings.runner_device_shares),
                self.memory,
            ),
            slots=RenderSlots(asyncio.Semaphore(self.settings.runner_slots), self.child.render),
            ending=self.ending,
            read_ahead=self.read_ahead,
            retry_policy=self.settings.retry.policy(),
            stall_seconds=self.settings.runner_stall_seconds,
            load_seconds=self.settings.runner_load_seconds,
        )

    def _registered(self) -> RunnerRegistered:
        identity = self.attempts.identity
        return RunnerRegistered(
            at=clock.now(),
            instance_id=identity.instance_id,
            renderer=self.settings.runner_renderer,
            device=public_device(self.device),
            slots=self.settings.runner_slots,
            model_ids=tuple(sorted(identity.model_ids)),
        )

    def _heartbeat(self) -> Heartbeat:
        self.child.activity.tell()
        times = self.times.measured
        self.memory.keep_times(times)
        activity = RunnerActivity(
            renderer=self.settings.runner_renderer,
            slots=self.settings.runner_slots,
            shares=self.settings.runner_device_shares,
            health=self.health,
            accepting=self.ready.is_set() and self.child.accepting,
            resident=self.child.resident,
            active=self.attempts.active,
            times=times,
            ending=self.ending.members,
            memory=self.memory.observed,
            batch_max=self.settings.batch_max,
            batch_bounds=self.memory.batch_bounds(self.settings.batch_max),
            quantisations=self.child.ready.quantisations if self.child.ready else {},
        )
        return heartbeat_of(self.attempts.identity, self.device, activity, clock.now())

    def _probe(self) -> LocalDevice:
        choice = "cpu" if self.settings.runner_renderer == "synthetic" else self.settings.runner_device
        return probe(choice, gpu_index=self.settings.runner_gpu_index)

    def _refresh(self) -> None:
        self.device = refresh(self.device, gpu_index=self.settings.runner_gpu_index)

    async def _look_at_health(self) -> None:
        """Ask the driver as often as a heartbeat is sent, until cancelled; without a GPU there is nothing to ask."""
        while self.watch is not None:
            found = await asyncio.to_thread(self.watch.poll)
            if found != self.health and self.health.state != "fenced":
                self._apply(found)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _apply(self, health: DeviceHealth) -> None:
        self.health, self.times.counts = health, not health.throttled
        logger.log(HEALTH_LEVELS[health.state], "the device is {} {}", health.state, health.reason)
        if health.state == "fenced":
            self.attempts.fence(health.reason)
            self.child.fence()
        self.heartbeat.notify()

    def _child_changed(self) -> None:
        said = self.child.ready
        if said is not None and said.engine.device != "cpu":
            self.rendered_on_gpu = True
        elif said is not None and self.device.kind == "cuda" and self.rendered_on_gpu:
            self._apply(DeviceHealth(state="fenced", reason=f"torch does not find it any more ({said.note})"))
        elif said is not None and self.device.kind == "cuda":
            # The driver has a GPU that this build of torch cannot use: what renders is what counts.
            self.device = replace(probe("cpu"), note=said.note)
        self.heartbeat.notify()


HEALTH_LEVELS = {"healthy": "INFO", "degraded": "WARNING", "fenced": "ERROR"}
_UNAVAILABLE = (DependencyAway, *NATS_ERRORS)
