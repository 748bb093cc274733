"""Tasks from their Render message to their last frames: the child's main job, apart from any socket or torch."""

import hashlib
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from loguru import logger

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.messages import (
    Image,
    Load,
    LoadFailed,
    Loading,
    ModelLoaded,
    StepDone,
    Timings,
    Unloaded,
    Warned,
)
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage, first_of_each
from dreamforge.gpu_runner.rendering.encode import encode
from dreamforge.gpu_runner.rendering.renderer import (
    ModelKey,
    OnRunStep,
    RenderCancelled,
    RenderedImage,
    Renderer,
    RenderFailed,
    RenderWarning,
)
from dreamforge.gpu_runner.worker.batch_bounds import BatchBounds
from dreamforge.gpu_runner.worker.finishing import AtOnce, Finishing
from dreamforge.gpu_runner.worker.memory_rungs_taken import MemoryRungsTaken
from dreamforge.gpu_runner.worker.open_tasks import FAILURE_CHARS_MAX, IsCancelled, OpenTasks, Send, short
from dreamforge.gpu_runner.worker.render_batches import RenderBatch, halves, next_batch


class TaskRunner:
    """Drives a renderer through tasks and reports what happens through `send`.

    clock: seconds from a monotonic clock. finishing: where finished images are encoded and sent. upcoming: a task that
    will be asked for next, if that is known.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        send: Send,
        clock: Callable[[], float],
        finishing: Finishing | None = None,
        upcoming: Callable[[], RenderTask | None] = lambda: None,
    ) -> None:
        self._renderer, self._send, self._clock = renderer, send, clock
        self._finishing, self._upcoming = finishing or AtOnce(), upcoming
        self._told = ""  # the task that the renderer was told of last
        self._bounds = BatchBounds(renderer, send)
        self._rungs = MemoryRungsTaken(renderer, send)

    def load(self, message: Load) -> None:
        """Have a model resident; a failure is reported and does not end the child."""
        try:
            self._load(ModelKey.of(message.model_id, message.path, message.digest, message.tier))
        except Exception as error:
            failure = as_failure(error)
            self._send(LoadFailed(model_id=message.model_id, reason=failure.reason, message=short(failure.message)))

    def render(self, tasks: Sequence[RenderTask], is_cancelled: IsCancelled) -> FailureReason | None:
        """Render the images of tasks, together where they can be; each is encoded and sent beside the next.

        Each task ends in exactly one of Done, Failed, Cancelled. Returns the reason of a failure after which the worker
        has to leave: CHILD_CRASHED (the GPU context is gone).
        """
        started = self._clock()
        self._bounds.begin()
        work = OpenTasks(
            tasks,
            self._send,
            is_cancelled,
            lambda: self._clock() - started,
            self._renderer.peak_bytes,
            self._finishing,
        )
        try:
            for task in tasks:
                self._begin(task, work)
            waiting = tuple(TaskImage(task, index) for task in tasks for index in task.to_render)
            while waiting := tuple(self._rungs.of(image) for image in work.open(waiting)):
                batch, waiting = next_batch(waiting, self._bounds.of, self._bounds.key)
                work.waiting = waiting
                self._render_batch(batch, work)
        except RenderFailed as failure:  # of the device, and so of every task
            for task in tasks:
                work.fail(task, failure)
            self._finishing.flush()  # the worker leaves
            return failure.reason
        finally:
            self._rungs.ended(tasks)
        return None

    def _begin(self, task: RenderTask, work: OpenTasks) -> None:
        """What comes before the first image of a task. Errors: RenderFailed of the device."""
        work.drop_cancelled()
        if task not in work:
            return
        try:
            held = self._load_somehow(task).task
            self._warn(task, self._renderer.warnings(held), None)
        except Exception as error:
            self._fail(task, error, work)
        else:
            if not task.to_render:
                work.done(task)

    def _load_somehow(self, task: RenderTask) -> TaskImage:
        """Load its model with the rungs that it needs to fit at all. Errors: RenderFailed."""
        while True:
            image = self._rungs.of(TaskImage(task, 0))
            try:
                self._load(ModelKey.of_task(image.task))
            except RenderFailed as error:
                failure = error
                drop_frames(error)
            else:
                return image
            self._climb((image,), failure)

    def _climb(self, batch: RenderBatch, failure: RenderFailed) -> Rung:
        """The next means against a failure for want of memory. Errors: RenderFailed, of any other one or without."""
        for model_id in failure.released:
            self._send(Unloaded(model_id=model_id))
        if failure.reason is not FailureReason.OUT_OF_MEMORY:
            raise failure
        taken = self._rungs.take(batch, failure)
        if taken.rung is None:
            message = f"{short(failure.message, FAILURE_CHARS_MAX)}; nothing is left to try ({taken.reasons})"
            raise RenderFailed(failure.reason, message) from failure
        logger.warning("{} images of {} ran out of memory: {}", len(batch), batch[0].task.request.model_id, taken.rung)
        return taken.rung

    def _render_batch(self, batch: RenderBatch, work: OpenTasks) -> None:
        """Render a batch, or its halves if that fails: an image that cannot be rendered fails its own task only.

        Errors: RenderFailed of the device.
        """
        work.drop_cancelled()
        if not (batch := tuple(self._rungs.of(image) for image in work.open(batch))):
            return
        try:
            self._load(ModelKey.of_task(batch[0].task))  # it leaves memory where a run did not fit beside it
            started, work_started = self._clock(), self._renderer.work_seconds()
            self._renderer.start_peak()
            rendered = self._run(batch, self._on_step(batch, work, started))
        except RenderCancelled:
            return
        except Exception as error:
            failure = as_failure(error)
            drop_frames(error)
        else:
            self._rendered(batch, rendered, (started, work_started), work)
            return
        self._recover(batch, failure, work)

    def _rendered(
        self,
        batch: RenderBatch,
        rendered: Sequence[RenderedImage | None],
        since: tuple[float, float],
        work: OpenTasks,
    ) -> None:
        """After a run that ended well; `since`: the clock and the work of the device when it was begun."""
        started, work_started = since
        seconds = (self._clock() - started) / len(batch)
        self._rungs.worked(batch)
        if None not in rendered:
            self._bounds.ran(batch, (self._renderer.work_seconds() - work_started) / len(batch))
        for image, result in zip(batch, rendered, strict=True):
            self._finish(image, result, seconds, work)

    def _recover(self, batch: RenderBatch, failure: RenderFailed, work: OpenTasks) -> None:
        """After a run that failed: its halves, or the end of the one task that cannot be rendered."""
        self._raise_if_of_the_device(failure)
        if failure.reason is FailureReason.OUT_OF_MEMORY:
            self._recover_memory(batch, failure, work)
        elif len(batch) == 1:
            self._fail(batch[0].task, failure, work)
        else:
            logger.warning("{} images together failed ({}); rendering halves", len(batch), failure)
            self._render_halves(batch, work)

    def _recover_memory(self, batch: RenderBatch, failure: RenderFailed, work: OpenTasks) -> None:
        """The same images with the next rung, or the end of the one task that no rung is left for."""
        try:
            rung = self._climb(batch, failure)
        except RenderFailed as last:
            self._fail(batch[0].task, last, work)
            return
        if rung is Rung.SMALLER_BATCH:
            self._bounds.did_not_fit(batch)
            self._render_halves(batch, work)
        else:
            self._render_batch(batch, work)

    def _render_halves(self, batch: RenderBatch, work: OpenTasks) -> None:
        for half in halves(batch):
            self._render_batch(half, work)

    def _run(self, batch: RenderBatch, on_step: OnRunStep) -> Sequence[RenderedImage | None]:
        """One run of the renderer; None for an image that has to be rendered alone. Errors: RenderCancelled."""
        geometry = batch[0].task.request.geometry
        if geometry is not None:  # copies at the other places: what is there decides no byte
            return self._renderer.render_together(batch * geometry.size, on_step)[geometry.place :][:1]
        if len(batch) == 1:
            return (self._render_alone(batch[0], on_step),)
        return self._renderer.render_together(batch, on_step)

    def _render_alone(self, image: TaskImage, on_step: OnRunStep) -> RenderedImage:
        def on_one_step(step: int, steps: int, preview: str | None = None, /) -> None:
            on_step(step, steps, {} if preview is None else {0: preview})

        return self._renderer.render(image.task, image.seed, on_one_step)

    def _finish(self, image: TaskImage, result: RenderedImage | None, seconds: float, work: OpenTasks) -> None:
        """Hand on what came of an image, unless its task has ended; if nothing did, it is rendered alone.

        Alone, every means against what a model cannot render is at hand.
        """
        if image.task not in work:
            return
        started = self._clock()
        try:
            if result is None:
                result = self._render_alone(image, self._on_step((image,), work, started))
                seconds = self._clock() - started
        except RenderCancelled:
            return
        except Exception as error:
            self._fail(image.task, error, work)
        else:
            self._warn(image.task, result.warnings, image.index)
            work.rendered(image.task, partial(self._encoded, image, result, seconds), len(result.scanlines))

    def _encoded(self, image: TaskImage, result: RenderedImage, seconds: float) -> Image:
        """The file of a rendered image. Errors: RenderFailed."""
        task, began = image.task, self._clock()
        width_px, height_px = task.output_px
        try:
            file = encode(result.scanlines, task.output_px, task.request, result.recipe)
        except Exception as error:
            raise as_failure(error) from error
        return Image(
            task_id=task.task_id,
            image_index=image.index,
            sha256=hashlib.sha256(file.data).hexdigest(),
            width_px=width_px,
            height_px=height_px,
            content_type=file.content_type,
            recipe=file.recipe,
            timings=Timings(render_seconds=seconds, encode_seconds=self._clock() - began),
            body=file.data,
        )

    def _on_step(self, batch: RenderBatch, work: OpenTasks, started: float) -> OnRunStep:
        """Tells each task of the batch of a step; raises RenderCancelled once none of them is left."""
        firsts = first_of_each(batch)
        geometry = batch[0].task.request.geometry

        def on_step(step: int, steps: int, previews: Mapping[int, str]) -> None:
            told = firsts if step == steps or not self._renderer.instant else {}
            for place, together in told.items():
                if batch[place].task in work:
                    done = StepDone(
                        task_id=batch[place].task.task_id,
                        image_index=batch[place].index,
                        step=step,
                        steps=steps,
                        elapsed_seconds=self._clock() - started,
                        together=together,
                        run_size=geometry.size if geometry else len(batch),
                        preview=previews.get(place),
                    )
                    self._send(done)
            work.drop_cancelled()
            if not work.open(batch):
                raise RenderCancelled
            self._tell_following(work)

        return on_step

    def _tell_following(self, work: OpenTasks) -> None:
        """Tell the renderer of the task of the next image, once."""
        waiting = work.open(work.waiting)
        following = waiting[0].task if waiting else self._upcoming()
        if following is not None and following.task_id != self._told:
            self._told = following.task_id
            self._renderer.encode_ahead(following)

    def _fail(self, task: RenderTask, error: Exception, work: OpenTasks) -> None:
        failure = as_failure(error)
        self._raise_if_of_the_device(failure)
        work.fail(task, failure)

    def _raise_if_of_the_device(self, failure: RenderFailed) -> None:
        if failure.reason is FailureReason.CHILD_CRASHED:
            raise failure

    def _warn(self, task: RenderTask, warnings: Iterable[RenderWarning], image_index: int | None) -> None:
        for warning in warnings:
            self._send(
                Warned(
                    task_id=task.task_id,
                    code=warning.code,
                    message=short(warning.message),
                    image_index=image_index,
                    words=warning.words,
                )
            )

    def _load(self, model: ModelKey) -> None:
        if self._renderer.is_resident(model):
            return
        self._send(Loading(model_id=model.model_id))
        started = self._clock()
        size_bytes, unloaded = self._renderer.load(model)
        for model_id in unloaded:
            self._send(Unloaded(model_id=model_id))
        self._send(ModelLoaded(model_id=model.model_id, seconds=self._clock() - started, bytes=size_bytes))


def drop_frames(error: BaseException) -> None:
    """Let go of the tensors that a traceback holds, so that the next try has their memory."""
    at: BaseException | None = error
    while at is not None:
        traceback.clear_frames(at.__traceback__)
        at.__traceback__, at = None, at.__cause__ or at.__context__


def as_failure(error: Exception) -> RenderFailed:
    """Any error as a typed failure; an unforeseen one is `internal` and leaves its traceback in the log."""
    if isinstance(error, RenderFailed):
        return error
    if isinstance(error, MemoryError):
        return RenderFailed(FailureReason.OUT_OF_MEMORY, "the process has no memory left")
    logger.opt(exception=error).error("a render failed with an unforeseen error")
    return RenderFailed(FailureReason.INTERNAL, f"{type(error).__name__}: {error}")
