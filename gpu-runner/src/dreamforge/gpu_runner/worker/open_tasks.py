"""The tasks of one Render message while they are rendered: each ends in exactly one of Done, Failed, Cancelled."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from dreamforge.gpu_runner.protocol.messages import Cancelled, Done, Failed, FromChild, Image
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.gpu_runner.worker.finishing import Finishing

Send = Callable[[FromChild], None]
IsCancelled = Callable[[str], bool]
End = Done | Failed | Cancelled
#: An error message is for a person and for an event in the log, never a place for a whole traceback.
MAX_MESSAGE_CHARS = 500
# Of a failure's own message where more is said of it: torch's has several hundred, the rungs of the memory ladder and
# why they were left out need the others.
FAILURE_CHARS_MAX = 160


def short(message: str, max_chars: int = MAX_MESSAGE_CHARS) -> str:
    """A message within its bound, cut in its middle: what failed stands first, and what was not tried, and why, last.

    >>> text = short("out of memory: " + 300 * "0123456789" + " (not used: tiled decode)")
    >>> len(text), text[:13], text[-13:]
    (500, 'out of memory', 'tiled decode)')
    """
    if len(message) <= max_chars:
        return message
    end = (max_chars - 1) // 2
    return message[: max_chars - 1 - end] + "…" + message[-end:]


@dataclass(slots=True)
class OpenTasks:
    """What is still to come of each task. Its images and its end go through `finishing`, and so stay in their order."""

    tasks: Sequence[RenderTask]
    send: Send
    is_cancelled: IsCancelled
    #: Seconds since the Render message was begun.
    elapsed: Callable[[], float]
    peak_bytes: Callable[[], int]
    finishing: Finishing
    #: The images that come after those that are rendered now.
    waiting: tuple[TaskImage, ...] = ()
    #: Images that are still to be rendered. Only the thread that renders changes it.
    _to_render: dict[str, int] = field(init=False)
    #: Tasks whose end was sent. Only what `finishing` runs changes it.
    _ended: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._to_render = {task.task_id: len(task.to_render) for task in self.tasks}

    def __contains__(self, task: RenderTask) -> bool:
        return task.task_id in self._to_render and task.task_id not in self._ended

    def open(self, images: Iterable[TaskImage]) -> tuple[TaskImage, ...]:
        """Those of images whose tasks have not ended."""
        return tuple(image for image in images if image.task in self)

    def drop_cancelled(self) -> None:
        """End the tasks that were cancelled meanwhile, after the images that they have."""
        for task in self.tasks:
            if task in self and self.is_cancelled(task.task_id):
                self._end(task, partial(Cancelled, task_id=task.task_id))

    def rendered(self, task: RenderTask, encoded: Callable[[], Image], size_bytes: int) -> None:
        """Encode and send an image, whose pixels take so many bytes; with the last one its task is done.

        `encoded` may raise RenderFailed, which ends the task.
        """
        self._to_render[task.task_id] -= 1
        self.finishing.add(lambda: self._send_image(task, encoded), size_bytes)
        if not self._to_render[task.task_id]:
            self.done(task)

    def done(self, task: RenderTask) -> None:
        """A task without a further image."""
        self._end(task, lambda: Done(task_id=task.task_id, seconds=self.elapsed(), peak_bytes=self.peak_bytes()))

    def fail(self, task: RenderTask, failure: RenderFailed) -> None:
        """A task that ends before its last image; one that has ended stays as it is."""
        self._end(task, lambda: _failed(task, failure))

    def _send_image(self, task: RenderTask, encoded: Callable[[], Image]) -> None:
        if task.task_id in self._ended:
            return
        try:
            self.send(encoded())
        except RenderFailed as failure:
            self._send_end(task, _failed(task, failure))

    def _end(self, task: RenderTask, end: Callable[[], End]) -> None:
        if self._to_render.pop(task.task_id, None) is not None:
            self.finishing.add(lambda: self._send_end(task, end()))

    def _send_end(self, task: RenderTask, end: End) -> None:
        if task.task_id not in self._ended:
            self._ended.add(task.task_id)
            self.send(end)


def _failed(task: RenderTask, failure: RenderFailed) -> Failed:
    return Failed(
        task_id=task.task_id, reason=failure.reason, message=short(failure.message), retryable=failure.retryable
    )
