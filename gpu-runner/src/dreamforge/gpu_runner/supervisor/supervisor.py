"""The runner's bus side, put together: who we are, what we hold, what runs beside what, and in which order it ends."""

import asyncio
from dataclasses import dataclass, field, replace
from functools import partial

from faststream.nats import NatsBroker
from loguru import logger

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import RunnerRegistered, RunnerStopped
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.gpu_runner.machine.device import LocalDevice, probe, refresh
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.gpu_runner.supervisor.admission import RunnerIdentity
from dreamforge.gpu_runner.supervisor.artifact_uploader import ArtifactUploader
from dreamforge.gpu_runner.supervisor.assignments import assignments_broker, ensure_consumer
from dreamforge.gpu_runner.supervisor.attempt import AttemptServices
from dreamforge.gpu_runner.supervisor.attempt_manager import LAST_WORDS_SECONDS, AttemptManager
from dreamforge.gpu_runner.supervisor.child_process import ChildOptions
from dreamforge.gpu_runner.supervisor.child_supervisor import ChildSupervisor
from dreamforge.gpu_runner.supervisor.heartbeat import HeartbeatPublisher, RunnerLoad, beat_of, public_device
from dreamforge.gpu_runner.supervisor.input_cache import InputCache
from dreamforge.gpu_runner.supervisor.interrupts import Interrupts
from dreamforge.gpu_runner.supervisor.local_models import LocalModel, Seen, changed, find_models
from dreamforge.gpu_runner.supervisor.models_watcher import ModelsWatcher
from dreamforge.gpu_runner.supervisor.progress_publisher import ProgressPublisher
from dreamforge.gpu_runner.supervisor.registration import RunnerRegistration
from dreamforge.gpu_runner.supervisor.render_tasks import RenderTaskFactory
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.bus import NATS_ERRORS, ApiError, Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.storage.objects import ObjectStore


@dataclass(slots=True)
class Supervisor:
    """One runner process: who it is, what it holds and what runs beside what. Nothing here imports torch."""

    settings: RunnerSettings
    bus: Bus
    objects: ObjectStore
    models: dict[str, LocalModel] = field(default_factory=dict)
    keeper: ChildSupervisor = field(init=False)
    store: EventStore = field(init=False)
    hands: AttemptManager = field(init=False)
    heart: HeartbeatPublisher = field(init=False)
    steps: ProgressPublisher = field(init=False)
    registry: RunnerRegistration = field(init=False)
    interrupts: Interrupts = field(init=False)
    device: LocalDevice = field(init=False)
    #: Set once the first assignment can be taken.
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    seen: Seen = field(default_factory=dict)
    #: One look into the models folder at a time.
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Models that are here and that somebody removed by hand.
    removed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        settings = self.settings
        me = RunnerIdentity(settings.runner_id, ids.new_id(), frozenset())
        source = f"/dreamforge/gpu-runner/{me.runner_id}"
        self.store = EventStore(self.bus, source)
        self.steps = ProgressPublisher(self.bus, source)
        self.registry = RunnerRegistration(self.bus, self.store)
        self.keeper = ChildSupervisor(ChildOptions.of(settings), on_change=self._child_changed)
        self.heart = HeartbeatPublisher(self.bus, me.runner_id, beat=self._beat, refresh=self._refresh)
        self.hands = AttemptManager(me, self._tools(), on_change=self.heart.quicken)
        self.interrupts = Interrupts(self.bus, self.hands)

    async def start(self, lifetime: Lifetime) -> None:
        """Begin to send heartbeats and to serve. When told to stop, attempts are drained before the parts end."""
        self.device = await asyncio.to_thread(self._probe)
        logger.info("found {}", self.device)
        if self.device.note:
            logger.warning("{}", self.device.note)
        broker = assignments_broker(self.settings.nats_url, self.settings.runner_id, self.hands.take)
        lifetime.on_close(partial(self._close, broker))
        lifetime.spawn(self.keeper.run(), "child", cleanup_seconds=LAST_WORDS_SECONDS)
        lifetime.spawn(self.heart.run(), "heartbeat")
        lifetime.spawn(self.interrupts.run(), "interrupts")
        lifetime.spawn(self.hands.renew(), "renewals")
        lifetime.spawn(ModelsWatcher(self.bus, self._look_again, self._disk_changed).run(), "lookout")
        lifetime.spawn(self._open(broker), "opening", may_end=True)
        lifetime.on_close(partial(self._leave, lifetime))

    async def check(self) -> None:
        """Readiness. Errors: DependencyAway while no assignment can be taken."""
        if not (self.ready.is_set() and self.keeper.accepting):
            raise DependencyAway(dependency="child", reason="the renderer is not up")

    async def _open(self, broker: NatsBroker) -> None:
        """Learn what there is to serve, say it, and open the door."""
        await asyncio.gather(self._discover(build=True), self._bucket())
        self.keeper.offer(self._offered())
        await self.registry.runner(self.settings.runner_id, self._registered())
        await self.keeper.wait_ready()
        await self.interrupts.following.wait()
        await retry.until_it_works("the assignments", lambda: self._subscribe(broker), ApiError, *_AWAY)
        self.ready.set()
        self.heart.quicken()
        logger.info("gpu-runner is ready: {} with {}", self.settings.runner_id, ", ".join(self.models) or "no model")

    async def _discover(self, *, build: bool = False) -> None:
        """Know the models that are on the disk now, and offer those that nobody removed by hand."""
        async with self.looking:
            found = await find_models(self.settings, self.seen, build=build)
            offered = [model_id for model_id, model in found.items() if await self.registry.model(model.descriptor)]
            for model_id in self.models.keys() - found.keys():
                del self.models[model_id]
            self.models.update(found)
            if removed := found.keys() - set(offered) - self.removed:
                names = ", ".join(sorted(removed))
                logger.warning("not offered, since removed by hand: {} (`dreamforge models add` brings it back)", names)
            self.removed = found.keys() - set(offered)
            self.hands.me = replace(self.hands.me, model_ids=frozenset(offered))

    async def _look_again(self) -> None:
        before, held = self.hands.me.model_ids, dict(self.models)
        await self._discover()
        if self.ready.is_set() and (self.hands.me.model_ids, self.models) != (before, held):
            self.keeper.know(self._offered())
            await self.registry.runner(self.settings.runner_id, self._registered())
            self.heart.quicken()
            logger.info("the models changed: {}", ", ".join(sorted(self.hands.me.model_ids)) or "none is left")

    def _disk_changed(self) -> bool:
        return not self.looking.locked() and changed(self.settings, self.seen)

    def _offered(self) -> tuple[LocalModel, ...]:
        return tuple(model for name, model in self.models.items() if name in self.hands.me.model_ids)

    async def _subscribe(self, broker: NatsBroker) -> None:
        await ensure_consumer(self.bus, self.settings.runner_id, slots=self.settings.runner_slots)
        await broker.start()

    async def _bucket(self) -> None:
        await retry.until_it_works("the object store", self.objects.ensure_bucket, DependencyAway)

    async def _leave(self, lifetime: Lifetime) -> None:
        if not lifetime.stopping:
            return  # a part failed: the lease ends what this runner holds
        self.heart.quicken()
        await self.hands.drain(self.settings.runner_drain_seconds)
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._say_goodbye()
        except TimeoutError:
            logger.warning("leaving without a word: NATS is away")

    async def _say_goodbye(self) -> None:
        await self.heart.stop()
        me = self.hands.me
        await self.registry.runner(me.runner_id, RunnerStopped(at=clock.now(), instance_id=me.instance_id))

    async def _close(self, broker: NatsBroker) -> None:
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await broker.stop()
                await self.store.close()
        except (TimeoutError, *NATS_ERRORS) as error:
            logger.warning("the connection did not close in order: {}", str(error) or type(error).__name__)

    def _tools(self) -> AttemptServices:
        return AttemptServices(
            store=self.store,
            keeper=self.keeper,
            uploads=ArtifactUploader(self.objects),
            steps=self.steps,
            tasks=RenderTaskFactory(
                self.models,
                InputCache(self.objects, self.settings.state_dir / "uploads"),
                self.settings.runner_preview_seconds or None,
            ),
            slots=asyncio.Semaphore(self.settings.runner_slots),
            retry_policy=self.settings.retry.policy(),
            stall_seconds=self.settings.runner_stall_seconds,
            load_seconds=self.settings.runner_load_seconds,
        )

    def _registered(self) -> RunnerRegistered:
        me = self.hands.me
        return RunnerRegistered(
            at=clock.now(),
            instance_id=me.instance_id,
            renderer=self.settings.runner_renderer,
            device=public_device(self.device),
            slots=self.settings.runner_slots,
            model_ids=tuple(sorted(me.model_ids)),
        )

    def _beat(self) -> Heartbeat:
        load = RunnerLoad(
            renderer=self.settings.runner_renderer,
            slots=self.settings.runner_slots,
            accepting=self.ready.is_set() and self.keeper.accepting,
            resident=self.keeper.resident,
            active=self.hands.active,
            step_seconds=self.steps.mean_seconds,
        )
        return beat_of(self.hands.me, self.device, load, clock.now())

    def _probe(self) -> LocalDevice:
        wish = "cpu" if self.settings.runner_renderer == "synthetic" else self.settings.runner_device
        return probe(wish, gpu_index=self.settings.runner_gpu_index)

    def _refresh(self) -> None:
        self.device = refresh(self.device, gpu_index=self.settings.runner_gpu_index)

    def _child_changed(self) -> None:
        said = self.keeper.ready
        if said is not None and said.engine.device == "cpu" and self.device.kind == "cuda":
            # The driver has a GPU that this build of torch cannot use: what counts is what paints.
            self.device = replace(probe("cpu"), note=said.note)
        self.heart.quicken()


_AWAY = (DependencyAway, *NATS_ERRORS)
