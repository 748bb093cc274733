"""The tasks of one Render message while they are rendered: each ends in exactly one of Done, Failed, Cancelled."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from dreamforge.gpu_runner.protocol.messages import Cancelled, Done, Failed, FromChild, Image
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

Send = Callable[[FromChild], None]
IsCancelled = Callable[[str], bool]
#: An error message is for a person and for an event in the log, never a place for a whole traceback.
MAX_MESSAGE_CHARS = 500


def short(message: str) -> str:
    """A message within its bound."""
    return message if len(message) <= MAX_MESSAGE_CHARS else message[: MAX_MESSAGE_CHARS - 1] + "…"


@dataclass(slots=True)
class OpenTasks:
    """What is still to come of each task."""

    tasks: Sequence[RenderTask]
    send: Send
    is_cancelled: IsCancelled
    #: Seconds since the Render message was begun.
    elapsed: Callable[[], float]
    peak_bytes: Callable[[], int]
    _to_come: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._to_come = {task.task_id: len(task.to_render) for task in self.tasks}

    def __contains__(self, task: RenderTask) -> bool:
        return task.task_id in self._to_come

    def open(self, images: Iterable[TaskImage]) -> tuple[TaskImage, ...]:
        """Those of images whose tasks have not ended."""
        return tuple(image for image in images if image.task in self)

    def drop_cancelled(self) -> None:
        """End the tasks that were cancelled meanwhile."""
        for task in self.tasks:
            if task in self and self.is_cancelled(task.task_id):
                del self._to_come[task.task_id]
                self.send(Cancelled(task_id=task.task_id))

    def finished(self, task: RenderTask, image: Image) -> None:
        """Send a finished image; with the last one its task is done."""
        self.send(image)
        self._to_come[task.task_id] -= 1
        if not self._to_come[task.task_id]:
            self.done(task)

    def done(self, task: RenderTask) -> None:
        """A task without a further image."""
        del self._to_come[task.task_id]
        self.send(Done(task_id=task.task_id, seconds=self.elapsed(), peak_bytes=self.peak_bytes()))

    def fail(self, task: RenderTask, failure: RenderFailed) -> None:
        """A task that ends before its last image; one that has ended stays as it is."""
        if self._to_come.pop(task.task_id, None) is None:
            return
        self.send(
            Failed(
                task_id=task.task_id,
                reason=failure.reason,
                message=short(failure.message),
                retryable=failure.retryable,
            )
        )
