"""The course of one attempt: fence, render, store, finish. Every way out of it is an event in the log.

Each image is uploaded and recorded when it is finished, and an attempt renders only the images that no earlier one has
stored. One that ends early first records what it has finished.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from loguru import logger

from dreamforge.contracts.errors import Conflict, DependencyAway, VersionConflict
from dreamforge.contracts.events import ArtifactStored, FailureReason, JobRequested
from dreamforge.contracts.fleet import ActiveAttempt
from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.messages import Image, StepDone
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.supervisor.admission import Drop, Refuse, RunnerIdentity, admit, is_running_here
from dreamforge.gpu_runner.supervisor.artifact_uploader import ArtifactUploader
from dreamforge.gpu_runner.supervisor.assignment import ReceivedAssignment
from dreamforge.gpu_runner.supervisor.attempt_images import AttemptImages
from dreamforge.gpu_runner.supervisor.attempt_recorder import AttemptRecorder
from dreamforge.gpu_runner.supervisor.attempt_spans import AttemptSpans
from dreamforge.gpu_runner.supervisor.attempt_times import AttemptTimes
from dreamforge.gpu_runner.supervisor.child_supervisor import ChildSupervisor
from dreamforge.gpu_runner.supervisor.ending_attempts import EndingAttempts, is_nearly_over
from dreamforge.gpu_runner.supervisor.model_read_ahead import ModelReadAhead
from dreamforge.gpu_runner.supervisor.picture_signing import SignPicture
from dreamforge.gpu_runner.supervisor.progress_publisher import ProgressPublisher
from dreamforge.gpu_runner.supervisor.render_slots import AttemptGroup, RenderSlots
from dreamforge.gpu_runner.supervisor.render_tasks import RenderTaskFactory
from dreamforge.gpu_runner.supervisor.run_times import RunTimes
from dreamforge.gpu_runner.supervisor.task_monitor import AttemptLost, TaskMonitor
from dreamforge.runtime import clock
from dreamforge.runtime.log.event_store import EventStore, JobOutcome, LoadedJob
from dreamforge.runtime.service import retry

T = TypeVar("T")
#: How long an attempt that ends early waits for the object store and the log to take the images that it has finished.
#: Below `CLOSE_SECONDS` of the attempt manager, which a runner that stops has for all of it.
KEEP_SECONDS = 2.0


class Cause(StrEnum):
    """Why an attempt is to be given up from outside."""

    CANCELLED = "cancelled"
    #: The log has moved past it: a lease that was lost, a deadline.
    SUPERSEDED = "superseded"
    #: The runner stops and its time to drain is over.
    DRAINED = "drained"
    #: The card may not be used any more.
    FENCED = "fenced"


@dataclass(eq=False)
class Interrupted(Exception):
    """The attempt is given up, at this stage of it."""

    cause: Cause
    stage: str


@dataclass(frozen=True, slots=True)
class AttemptServices:
    """What attempts are made with; the same for all of them."""

    store: EventStore
    child: ChildSupervisor
    uploads: ArtifactUploader
    sign: SignPicture
    progress: ProgressPublisher
    tasks: RenderTaskFactory
    slots: RenderSlots
    times: RunTimes
    ending: EndingAttempts
    read_ahead: ModelReadAhead
    retry_policy: RetryPolicy
    stall_seconds: float
    load_seconds: float


@dataclass(slots=True)
class Attempt:
    """One attempt of this runner. `run` ends when the log has its outcome; only then may its message be acked."""

    assignment: ReceivedAssignment
    services: AttemptServices
    group: AttemptGroup = field(init=False)
    interrupted: "asyncio.Future[Cause]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    why: str = ""

    def __post_init__(self) -> None:
        self.group = self.services.slots.group_of(self.assignment.event.group)

    def interrupt(self, cause: Cause, why: str = "") -> None:
        """Give it up; the first cause counts. `why`: for the log, where the cause alone does not say it."""
        self.why = self.why or why
        if not self.interrupted.done():
            self.interrupted.set_result(cause)

    async def run(self, identity: RunnerIdentity) -> str:
        """Do what the assignment asks, or say in the log why not; the outcome in a word, for people and metrics.

        Waits for as long as the log or the object store is unavailable. Errors: unforeseen ones.
        """
        try:
            return await self._run(identity)
        finally:
            self.group.leave(self.assignment.task_id)
            self.services.ending.remove(self.assignment.task_id)

    async def _run(self, identity: RunnerIdentity) -> str:
        loaded = await self._log(self._read)
        verdict = admit(loaded.state, self.assignment.event, identity)
        if isinstance(verdict, Drop):
            return f"dropped: {verdict.why}"
        if isinstance(verdict, Refuse):
            return await self._fail(AttemptLost(verdict.reason, verdict.message, verdict.retryable), loaded)
        self.services.read_ahead.want(verdict.request.model_id)
        try:
            return await self._in_a_slot(verdict.request, loaded, identity)
        except Interrupted as interruption:
            return await self._give_up(interruption)

    async def _read(self) -> LoadedJob:
        """The job; for a new assignment as it was right after it: the append of the start finds out if it still is."""
        of = self.assignment
        if of.is_first:
            return await self.services.store.load_assigned(of.job_id, of.event, of.sequence)
        return await self.services.store.load(of.job_id)

    async def fail(self, message: str) -> str:
        """End it in the log after an unforeseen error."""
        return await self._fail(AttemptLost(FailureReason.INTERNAL, message), None)

    async def _in_a_slot(self, request: RenderRequest, loaded: LoadedJob, identity: RunnerIdentity) -> str:
        entering = self.group.enter(self.assignment.task_id)
        await (self._or_interrupt(entering, stage="assigned") if self.group.must_wait else entering)
        try:
            return await self._start_and_render(request, loaded, identity)
        except AttemptLost as lost:
            return await self._fail(lost, None)

    async def _start_and_render(self, request: RenderRequest, loaded: LoadedJob, identity: RunnerIdentity) -> str:
        if not self.services.child.accepting:
            await self._or_interrupt(self._child_ready(), stage="assigned")
        if (started := await self._start(loaded, identity)) is None:
            return "dropped: the job took another course before its start"
        missing = started.state.missing_images
        if not missing:  # an earlier attempt ended between its last image and its success
            return await self._finish((), 0.0, started)
        recorder = AttemptRecorder(self.assignment.event.attempt, self._execute, started, len(missing))
        monitor = self._monitor(request, await self._task(request, missing), recorder, requested_at_of(loaded))
        try:
            render_seconds = await self._or_interrupt(monitor.rendered(), stop=monitor.stop)
            self._make_room()
            await self._or_interrupt(monitor.stored(), stage="uploading")
            known = await self._or_interrupt(recorder.recorded(), stage="uploading")
        except (AttemptLost, Interrupted) as end:
            if not (isinstance(end, Interrupted) and end.cause is Cause.SUPERSEDED):
                await self._keep(monitor, recorder)
            raise
        finally:
            monitor.forget()
            recorder.forget()
        return await self._finish(recorder.waiting, render_seconds, known)

    def _make_room(self) -> None:
        """Let the next attempt have the slot: this one needs the device no longer, or only for a moment."""
        task_id, event = self.assignment.task_id, self.assignment.event
        if self.services.ending.add(task_id, ActiveAttempt(job_id=self.assignment.job_id, attempt=event.attempt)):
            self.group.leave(task_id)

    async def _keep(self, monitor: TaskMonitor, recorder: AttemptRecorder) -> None:
        """Record every image that is finished, before the attempt ends without the rest."""
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                await monitor.stored()
                await recorder.record_all()
        except TimeoutError:
            logger.warning("attempt {} ends before its finished images are stored", self.assignment.task_id)

    async def _child_ready(self) -> None:
        try:
            async with asyncio.timeout(self.services.load_seconds):
                await self.services.child.wait_ready()
        except TimeoutError:
            raise AttemptLost(FailureReason.CHILD_CRASHED, "the child does not come up") from None

    async def _start(self, loaded: LoadedJob, identity: RunnerIdentity) -> LoadedJob | None:
        """Append JobStarted; the job after it, or None if the log says no."""
        command = decisions.StartAttempt(
            clock.now(), self.assignment.event.attempt, identity.runner_id, identity.instance_id
        )
        try:
            outcome = await self._execute(command, loaded)
        except Conflict:
            now = await self._log(lambda: self.services.store.load(self.assignment.job_id))
            return now if is_running_here(now.state, command.attempt, identity) else None
        return LoadedJob(outcome.state, outcome.version)

    def _monitor(
        self, request: RenderRequest, task: RenderTask, recorder: AttemptRecorder, requested_at: datetime | None
    ) -> TaskMonitor:
        steps = self.services.progress.of(self.assignment, request, task.to_render)
        times, spans = AttemptTimes(self.services.times, request), AttemptSpans(request, task.to_render)
        images = AttemptImages(self.assignment, self.services.sign, self.services.uploads, times, spans, requested_at)

        async def on_step(step: StepDone) -> None:
            times.step(step)
            spans.step(step)
            if is_nearly_over(await steps.publish(step), times.beside_seconds):
                self._make_room()

        async def store(image: Image, seed: int) -> None:
            recorder.store(await images.store(image, seed))

        return TaskMonitor(
            self.services.child,
            self.group,
            task,
            on_step=on_step,
            on_loading=steps.loading,
            on_loaded=spans.loaded,
            on_warning=recorder.warn,
            store=store,
            ending=self.services.ending,
            stall_seconds=self.services.stall_seconds,
            load_seconds=self.services.load_seconds,
        )

    async def _task(self, request: RenderRequest, images: tuple[int, ...]) -> RenderTask:
        making = self.services.tasks.task_for(self.assignment.task_id, request, self.assignment.event, images)
        return await (self._or_interrupt(making, stage="assigned") if request.uploads else making)

    async def _finish(
        self, artifacts: tuple[ArtifactStored, ...], render_seconds: float, known: LoadedJob | None
    ) -> str:
        attempt = self.assignment.event.attempt
        command = decisions.FinishAttempt(clock.now(), attempt, artifacts, render_seconds)
        try:
            return _name(await self._execute(command, known))
        except Conflict as conflict:
            now = (await self._log(lambda: self.services.store.load(self.assignment.job_id))).state
            if now.status is Status.SUCCEEDED and now.attempt == attempt:
                return "succeeded"  # our own append, whose ack was lost
            return f"refused by the log: {conflict}"

    async def _fail(self, lost: AttemptLost, known: LoadedJob | None) -> str:
        logger.warning("attempt {} failed: {}", self.assignment.task_id, lost)
        command = decisions.FailAttempt(
            clock.now(),
            self.assignment.event.attempt,
            lost.reason,
            lost.retryable,
            lost.message,
            self.services.retry_policy,
            written_by=self.assignment.event.runner_id,
        )
        try:
            await self._execute(command, known)
        except Conflict as conflict:
            return f"refused by the log: {conflict}"
        return f"failed: {lost.reason}"

    async def _give_up(self, interruption: Interrupted) -> str:
        match interruption.cause:
            case Cause.DRAINED:
                return await self._fail(AttemptLost(FailureReason.RUNNER_DRAINED, "the runner is stopping"), None)
            case Cause.FENCED:
                message = f"the device may not be used any more: {self.why}"
                return await self._fail(AttemptLost(FailureReason.RUNNER_DRAINED, message), None)
            case Cause.SUPERSEDED:
                return "dropped: the log moved past it"
            case Cause.CANCELLED:
                command = decisions.ConfirmCancel(clock.now(), self.assignment.event.attempt, interruption.stage)
        try:
            return _name(await self._execute(command, None))
        except Conflict as conflict:
            return f"refused by the log: {conflict}"

    async def _or_interrupt(
        self,
        work: Coroutine[Any, Any, T],  # Any: what a coroutine is sent and yields is asyncio's affair
        *,
        stage: str = "running",
        stop: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        """What `work` gives. Errors: Interrupted, once `stop` has ended what was going on."""
        task = asyncio.create_task(work)
        try:
            waiting: set[asyncio.Future[Any]] = {task, self.interrupted}  # Any: two types of result
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                if stop is not None:
                    await stop()
                raise Interrupted(self.interrupted.result(), stage)
        except BaseException:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        return task.result()

    async def _execute(self, command: decisions.Command, known: LoadedJob | None) -> JobOutcome:
        """Append what follows. A version conflict reads again; NATS away is waited for. Errors: Conflict."""
        return await self._log(
            lambda: self.services.store.execute(
                self.assignment.job_id, command, known=known, traceparent=self.assignment.traceparent
            )
        )

    async def _log(self, call: Callable[[], Awaitable[T]]) -> T:
        return await retry.until_it_works("the log", call, DependencyAway, VersionConflict)


def requested_at_of(loaded: LoadedJob) -> datetime | None:
    """When a job was requested, where its request was read."""
    first = loaded.history[0].event if loaded.history else None
    return first.at if isinstance(first, JobRequested) else None


def _name(outcome: JobOutcome) -> str:
    return outcome.events[-1].TOKEN if outcome.events else "already there"
