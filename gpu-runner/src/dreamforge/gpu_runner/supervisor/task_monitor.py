"""Follows one task to its end: steps published, images stored, and no silence longer than is plausible."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.gpu_runner.machine.memory import system_memory
from dreamforge.gpu_runner.protocol.messages import (
    Cancelled,
    Done,
    Failed,
    Image,
    Loading,
    ModelLoaded,
    StepDone,
    Warned,
)
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.supervisor.child_supervisor import ChildGone, ChildSupervisor, OfTask
from dreamforge.gpu_runner.supervisor.ending_attempts import EndingAttempts
from dreamforge.gpu_runner.supervisor.render_slots import AttemptGroup
from dreamforge.runtime import clock

OnStep = Callable[[StepDone], Awaitable[None]]
OnLoading = Callable[[str], Awaitable[None]]
OnLoaded = Callable[[ModelLoaded], None]
OnWarning = Callable[[Warned], Awaitable[None]]
Store = Callable[[Image, int], Awaitable[None]]
#: A step this many times as long as the longest before it is no longer slow, it is stuck.
STALL_FACTOR = 30.0


@dataclass(eq=False)
class AttemptLost(ForgeError):
    """This attempt ends without all of its images."""

    code = "attempt_lost"
    reason: FailureReason
    message: str
    retryable: bool = True

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(slots=True)
class TaskMonitor:
    """One task at the child. Uploads of finished images run beside the render of the next ones."""

    child: ChildSupervisor
    group: AttemptGroup
    task: RenderTask
    on_step: OnStep
    on_loading: OnLoading
    on_warning: OnWarning
    store: Store
    ending: EndingAttempts
    stall_seconds: float
    load_seconds: float
    on_loaded: OnLoaded = lambda _message: None
    _uploads: "list[asyncio.Future[None]]" = field(default_factory=list)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _longest_step_seconds: float = 0.0

    async def rendered(self) -> float:
        """Wait until every image has come from the child; the seconds that the task took there.

        Errors: AttemptLost.
        """
        mailbox = self.child.listen(self.task.task_id)
        self.group.hand_in(self.task)
        try:
            while True:
                if (seconds := await self._take(await self._next(mailbox))) is not None:
                    return seconds
        finally:
            self._ended.set()

    async def stored(self) -> None:
        """Wait until every image that has come so far is in the object store. A caller that is cancelled stops none."""
        if self._uploads:
            await asyncio.wait(self._uploads)
        for upload in self._uploads:
            upload.result()

    async def stop(self) -> None:
        """Have the child stop, and wait until it has. One that does not is killed."""
        self.group.send_now()  # the child can only stop what it has
        self.child.cancel(self.task.task_id)
        try:
            async with asyncio.timeout(self._patience_seconds()):
                await self._ended.wait()
        except TimeoutError:
            self.child.kill()
            await self._ended.wait()

    def forget(self) -> None:
        """Give up uploads that are still going on."""
        for upload in self._uploads:
            upload.cancel()

    async def _next(self, mailbox: "asyncio.Queue[OfTask]") -> OfTask:
        if not mailbox.empty():
            return mailbox.get_nowait()
        began = clock.monotonic_seconds()
        while True:
            # A child that renders what was sent with this task, and before it, is not stuck.
            silent_since = max(began, self.child.heard_at)
            try:
                left_seconds = silent_since + self._patience_seconds() - clock.monotonic_seconds()
                async with asyncio.timeout(max(0.0, left_seconds)):
                    message = await mailbox.get()
                break
            except TimeoutError:
                if self.child.heard_at <= silent_since:
                    silent_seconds = clock.monotonic_seconds() - silent_since
                    self.child.kill()
                    raise AttemptLost(FailureReason.STALLED, f"no step for {silent_seconds:.1f} s") from None
        if isinstance(message, StepDone):
            self._longest_step_seconds = max(self._longest_step_seconds, clock.monotonic_seconds() - began)
        return message

    def _patience_seconds(self) -> float:
        if self.child.loading:
            return self.load_seconds
        return max(self.stall_seconds, STALL_FACTOR * self._longest_step_seconds)

    async def _take(self, message: OfTask) -> float | None:
        match message:
            case StepDone():
                await self.on_step(message)
            case Loading() if message.model_id == self.task.request.model_id:
                await self.on_loading(message.model_id)
            case ModelLoaded() if message.model_id == self.task.request.model_id:
                self.on_loaded(message)
            case Warned():
                await self.on_warning(message)
            case Image():
                seed = self.task.seeds[message.image_index]
                upload = asyncio.ensure_future(self.store(message, seed))
                self.ending.hold(upload, len(message.body))
                self._uploads.append(upload)
            case Done():
                return message.seconds
            case Failed():
                raise AttemptLost(message.reason, message.message, message.retryable)
            case ChildGone():
                why = f"the child died (exit status {message.status}){_why(message)}"
                raise AttemptLost(FailureReason.CHILD_CRASHED, why)
            case Cancelled():
                raise AttemptLost(FailureReason.INTERNAL, "the child stopped this task")
        return None


def _why(gone: ChildGone) -> str:
    """The kernel does not say whom it ended, so this is said of the machine."""
    if not gone.memory_was_full:
        return ""
    total = readable_size(system_memory().total_bytes)
    return f"; the kernel ended processes of this machine ({total}) meanwhile, because memory was full"
