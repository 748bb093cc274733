"""Keeps one child process running and shares it between attempts: each task has a mailbox of its messages."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from loguru import logger

from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.gpu_runner import metrics
from dreamforge.gpu_runner.protocol.child_options import ChildOptions
from dreamforge.gpu_runner.protocol.messages import (
    BatchLearnt,
    Cancel,
    Cancelled,
    Done,
    Failed,
    FromChild,
    Image,
    Load,
    LoadFailed,
    Loading,
    MemoryObserved,
    ModelLoaded,
    Ready,
    Render,
    RungsLearnt,
    StepDone,
    Unloaded,
    Warned,
)
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.supervisor.child_process import Child
from dreamforge.gpu_runner.supervisor.device_activity import DeviceActivity
from dreamforge.gpu_runner.supervisor.local_models import LocalModel
from dreamforge.runtime import clock
from dreamforge.runtime.service import retry

#: How long a child may take to leave after Stop when it has nothing to do.
STOP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ChildGone:
    """In a mailbox: the process died, and with it the task."""

    status: int | None
    #: Whether it was killed, not by us, while the kernel ended processes because memory was full.
    memory_was_full: bool = False


#: What a child does before it is ready.
STAGES = {"import": "importing torch and diffusers", "device": "looking for a device"}
OfTask = StepDone | Warned | Image | Done | Failed | Cancelled | Loading | ModelLoaded | LoadFailed | ChildGone


@dataclass(slots=True)
class ChildSupervisor:
    """One child at a time, started again with a growing pause when it dies.

    `on_change` is called when readiness or the set of resident models changes.
    """

    options: ChildOptions
    on_change: Callable[[], None] = lambda: None
    #: Called with the id of a model that was loaded, the seconds it took and its bytes.
    on_loaded: Callable[[str, float, int], None] = lambda _model_id, _seconds, _bytes: None
    #: Keeps what the child has learnt; whether a heartbeat is to tell it at once.
    on_learnt: Callable[[BatchLearnt | RungsLearnt | MemoryObserved], bool] = lambda _message: False
    #: What the present child said of itself; None while there is none that is ready.
    ready: Ready | None = None
    #: Bytes by model id, of what is loaded now.
    resident: dict[str, int] = field(default_factory=dict)
    #: How many children died without being asked to.
    crashes: int = 0
    #: When a child last said anything, by the monotonic clock.
    heard_at: float = 0.0
    #: Whether a model is being read: the child says nothing else meanwhile.
    loading: bool = False
    #: Whether its device may be used no more: then no other child is started.
    fenced: bool = False
    #: What the device does, for metrics.
    activity: DeviceActivity = field(default_factory=DeviceActivity)
    _models: tuple[LocalModel, ...] = ()
    #: Models that are to be loaded before tasks are taken; one that does not load is not waited for.
    _to_load: set[str] = field(default_factory=set)
    _child: Child | None = None
    _is_ready: asyncio.Event = field(default_factory=asyncio.Event)
    _mailboxes: dict[str, "asyncio.Queue[OfTask]"] = field(default_factory=dict)

    async def run(self) -> None:
        """Keep a child until cancelled; then end it."""
        try:
            while True:
                if self.fenced:
                    await asyncio.Event().wait()
                async for attempt in retry.backoff("the renderer"):
                    if self.fenced or await self._live_once():
                        break
                    logger.error("the child did not become ready (try {})", attempt)
        finally:
            if self._child is not None:
                await self._child.stop(STOP_SECONDS)

    def offer(self, models: tuple[LocalModel, ...]) -> None:
        """Models to load before their first job comes, in every child, as many as stay resident."""
        self._models = models
        self._preload()
        self._open_if_loaded()

    def know(self, models: tuple[LocalModel, ...]) -> None:
        """The models to load from the next child on; this one loads what is new when a job asks for it."""
        self._models = models

    @property
    def accepting(self) -> bool:
        """Whether the child is up and has loaded what it should have before its first task."""
        return self._is_ready.is_set()

    async def wait_ready(self) -> None:
        """Wait until tasks can be given."""
        await self._is_ready.wait()

    @property
    def pid(self) -> int | None:
        """The present child's process id."""
        return None if self._child is None else self._child.pid

    def listen(self, task_id: str) -> "asyncio.Queue[OfTask]":
        """The mailbox of a task that is to be rendered; it ends with one of Done, Failed, Cancelled, ChildGone."""
        mailbox: asyncio.Queue[OfTask] = asyncio.Queue()
        if self._child is None or self.ready is None:
            mailbox.put_nowait(ChildGone(None))
        else:
            self._mailboxes[task_id] = mailbox
        return mailbox

    def render(self, tasks: tuple[RenderTask, ...]) -> None:
        """Give the child tasks to render together; those whose mailbox has ended meanwhile are left out."""
        heard = tuple(task for task in tasks if task.task_id in self._mailboxes)
        if heard and self._child is not None:
            self._child.send(Render(tasks=heard))
            self.activity.given(*(task.task_id for task in heard))

    def cancel(self, task_id: str) -> None:
        """Have a task stopped within one step; its mailbox says when."""
        if self._child is not None:
            self._child.send(Cancel(task_id=task_id))

    def kill(self) -> None:
        """End a child that is stuck; `run` starts another."""
        if self._child is not None:
            self._child.kill()

    def fence(self) -> None:
        """End the child, and start no other."""
        self.fenced = True
        self.kill()

    async def _live_once(self) -> bool:
        """One child from start to death; True if it had become ready."""
        child = self._child = await Child.start(self.options, self._hear)
        if self.fenced:
            child.kill()
        status = await child.wait_gone()
        was_ready, self._child, self.ready = self.ready is not None, None, None
        self.crashes, self.loading = self.crashes + 1, False
        metrics.CHILD_CRASHES.inc()
        self.activity.gone()
        self.resident.clear()
        self._to_load.clear()
        self._is_ready.clear()
        gone = ChildGone(status, child.memory_was_full)
        why = ": memory was full, for which the kernel ended processes" if gone.memory_was_full else ""
        logger.error("the child process ended (exit status {}){}", status, why)
        for mailbox in self._mailboxes.values():
            mailbox.put_nowait(gone)
        self._mailboxes.clear()
        self.on_change()
        return was_ready

    def _hear(self, message: FromChild) -> None:
        self.heard_at = clock.monotonic_seconds()
        match message:
            case Ready():
                self._become_ready(message)
            case ModelLoaded() | Unloaded() | Loading() | LoadFailed():
                self._note_model(message)
            case BatchLearnt() | RungsLearnt() | MemoryObserved():
                self._learn(message)
            case StepDone() | Image() | Warned():
                self._deliver(message.task_id, message)
            case Done() | Failed() | Cancelled():
                self._deliver(message.task_id, message)
                self._mailboxes.pop(message.task_id, None)
                self.activity.ended(message.task_id)
            case _:
                logger.info("the child is starting: {}", STAGES[message.stage])

    def _learn(self, message: BatchLearnt | RungsLearnt | MemoryObserved) -> None:
        if not self.on_learnt(message):
            return
        if isinstance(message, BatchLearnt):
            seen = ", ".join(f"{size}: {seconds:.3g} s" for size, seconds in message.seconds.items())
            logger.info("{}: up to {} images in one run (an image and step by {})", message.shape, message.bound, seen)
        self.on_change()

    def _become_ready(self, message: Ready) -> None:
        self.ready = message
        engine = message.engine
        how = f"{engine.device} ({engine.device_name}), {engine.dtype}"
        logger.info("child is ready: {} on {}, {} free", engine.renderer, how, readable_size(message.free_bytes))
        if message.note:
            logger.warning("child: {}", message.note)
        self._preload()
        self._open_if_loaded()
        self.on_change()

    def _open_if_loaded(self) -> None:
        if self.ready is not None and not self._to_load:
            self._is_ready.set()

    def _preload(self) -> None:
        if self._child is None or self.ready is None or self.options.renderer == "synthetic":
            return
        for model in self._models[: self.options.resident_models]:
            descriptor = model.descriptor
            self._child.send(Load(model_id=descriptor.model_id, path=str(model.folder), digest=descriptor.digest))
            self._to_load.add(descriptor.model_id)
            self._is_ready.clear()

    def _note_model(self, message: ModelLoaded | Unloaded | Loading | LoadFailed) -> None:
        self.loading = isinstance(message, Loading)
        self.activity.loading(self.loading)
        if isinstance(message, ModelLoaded | LoadFailed):
            self._to_load.discard(message.model_id)
            self._open_if_loaded()
        match message:
            case ModelLoaded():
                logger.info("model {} loaded in {:.2f} s", message.model_id, message.seconds)
                self.resident[message.model_id] = message.bytes
                self.on_loaded(message.model_id, message.seconds, message.bytes)
                self.on_change()
            case Unloaded():
                self.resident.pop(message.model_id, None)
                self.on_change()
            case LoadFailed():
                logger.error("model {}: {}", message.model_id, message.message)
        if not isinstance(message, Unloaded):
            # A task that waits must know whether this silence is a load or a stall.
            for mailbox in self._mailboxes.values():
                mailbox.put_nowait(message)

    def _deliver(self, task_id: str, message: StepDone | Warned | Image | Done | Failed | Cancelled) -> None:
        if (mailbox := self._mailboxes.get(task_id)) is not None:
            mailbox.put_nowait(message)
