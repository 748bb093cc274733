"""One task from its Render message to its last frame: the child's main job, apart from any socket or torch."""

import hashlib
from collections.abc import Callable, Iterable

from loguru import logger

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.messages import (
    Cancelled,
    Done,
    Failed,
    FromChild,
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
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.encode import encode
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderCancelled, Renderer, RenderFailed, RenderWarning

Send = Callable[[FromChild], None]
#: An error message is for a person and for an event in the log, never a place for a whole traceback.
MAX_MESSAGE_CHARS = 500


class TaskRunner:
    """Drives a renderer through tasks and reports what happens through `send`.

    clock: seconds from a monotonic clock.
    """

    def __init__(self, renderer: Renderer, *, send: Send, clock: Callable[[], float]) -> None:
        self._renderer, self._send, self._clock = renderer, send, clock

    def load(self, message: Load) -> None:
        """Have a model resident; a failure is reported and does not end the child."""
        try:
            self._load(ModelKey.of(message.model_id, message.path, message.digest, message.tier))
        except Exception as error:
            failure = as_failure(error)
            self._send(LoadFailed(model_id=message.model_id, reason=failure.reason, message=_short(failure.message)))

    def render(self, task: RenderTask, is_cancelled: Callable[[], bool]) -> FailureReason | None:
        """Render the images of a task, send each when it is finished; ends in exactly one of Done, Failed, Cancelled.

        Returns the reason of a failure: after CHILD_CRASHED (the GPU context is gone) the worker has to leave.
        """
        started = self._clock()
        try:
            self._render_images(task, is_cancelled)
        except RenderCancelled:
            self._send(Cancelled(task_id=task.task_id))
            return None
        except Exception as error:
            return self._fail(task, as_failure(error))
        seconds = self._clock() - started
        self._send(Done(task_id=task.task_id, seconds=seconds, peak_bytes=self._renderer.peak_bytes()))
        return None

    def _render_images(self, task: RenderTask, is_cancelled: Callable[[], bool]) -> None:
        if is_cancelled():
            raise RenderCancelled
        self._load(ModelKey.of_task(task))
        self._warn(task, self._renderer.warnings(task), None)
        for image_index in task.to_render:
            if is_cancelled():
                raise RenderCancelled
            self._send(self._render_image(task, image_index, task.seeds[image_index], is_cancelled))

    def _render_image(self, task: RenderTask, image_index: int, seed: int, is_cancelled: Callable[[], bool]) -> Image:
        started = self._clock()

        def on_step(step: int, steps: int, preview: str | None = None, /) -> None:
            if step == steps or not self._renderer.instant:
                elapsed_seconds = self._clock() - started
                self._send(
                    StepDone(
                        task_id=task.task_id,
                        image_index=image_index,
                        step=step,
                        steps=steps,
                        elapsed_seconds=elapsed_seconds,
                        preview=preview,
                    )
                )
            if is_cancelled():
                raise RenderCancelled

        image = self._renderer.render(task, seed, on_step)
        rendered = self._clock()
        self._warn(task, image.warnings, image_index)
        width_px, height_px = task.output_px
        file = encode(image.scanlines, task.output_px, task.request, image.recipe)
        return Image(
            task_id=task.task_id,
            image_index=image_index,
            sha256=hashlib.sha256(file.data).hexdigest(),
            width_px=width_px,
            height_px=height_px,
            content_type=file.content_type,
            recipe=file.recipe,
            timings=Timings(render_seconds=rendered - started, encode_seconds=self._clock() - rendered),
            body=file.data,
        )

    def _warn(self, task: RenderTask, warnings: Iterable[RenderWarning], image_index: int | None) -> None:
        for warning in warnings:
            self._send(
                Warned(
                    task_id=task.task_id,
                    code=warning.code,
                    message=_short(warning.message),
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

    def _fail(self, task: RenderTask, failure: RenderFailed) -> FailureReason:
        self._send(
            Failed(
                task_id=task.task_id,
                reason=failure.reason,
                message=_short(failure.message),
                retryable=failure.retryable,
            )
        )
        return failure.reason


def as_failure(error: Exception) -> RenderFailed:
    """Any error as a typed failure; an unforeseen one is `internal` and leaves its traceback in the log."""
    if isinstance(error, RenderFailed):
        return error
    if isinstance(error, MemoryError):
        return RenderFailed(FailureReason.OUT_OF_MEMORY, "the process has no memory left")
    logger.opt(exception=error).error("a render failed with an unforeseen error")
    return RenderFailed(FailureReason.INTERNAL, f"{type(error).__name__}: {error}")


def _short(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"
