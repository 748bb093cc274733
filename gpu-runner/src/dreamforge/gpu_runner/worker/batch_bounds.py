"""Which images go into the next run and how many, and what the last one teaches of that."""

from collections.abc import Callable, Hashable

from dreamforge.contracts.placement import needs_of
from dreamforge.contracts.request.batch_key import batch_key, step_work
from dreamforge.gpu_runner.protocol.messages import BatchLearnt
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.renderer import Renderer
from dreamforge.gpu_runner.worker.batch_times import BatchTimes
from dreamforge.gpu_runner.worker.render_batches import RenderBatch, run_key


class BatchBounds:
    """The bounds of one renderer; whatever changes one is told to the supervisor, for the heartbeat."""

    def __init__(self, renderer: Renderer, send: Callable[[BatchLearnt], None]) -> None:
        self._renderer, self._send = renderer, send
        self._times = BatchTimes()
        #: Of the tasks that are being rendered: they wait for several runs, and to count tokens takes time.
        self._forms: dict[str, Hashable] = {}

    def begin(self) -> None:
        """Other tasks are rendered from now on."""
        self._forms.clear()

    def key(self, image: TaskImage) -> Hashable:
        """What images of one run share, of one that may be with others."""
        task = image.task
        if task.task_id not in self._forms:
            self._forms[task.task_id] = self._renderer.prompt_form(task)
        return run_key(image), self._forms[task.task_id]

    def of(self, task: RenderTask) -> int:
        """How many images may be in one run with those of this task."""
        if not _may_grow(task) or not self._renderer.renders_together(task):
            return 1
        self._times.recall(_learnt_for(task), task.batch_seconds)
        return self._times.bound(_learnt_for(task), task.together_max)

    def ran(self, batch: RenderBatch, seconds: float) -> None:
        """A run took so many seconds of the device's work for each of its images."""
        task = batch[0].task
        if _may_grow(task):
            self._times.ran(_learnt_for(task), len(batch), seconds / task.request.steps_at_full_size)
            self._tell(task)

    def did_not_fit(self, batch: RenderBatch) -> None:
        """A run of several images ran out of memory."""
        self._times.did_not_fit(_learnt_for(batch[0].task), len(batch))
        self._tell(batch[0].task)

    def _tell(self, task: RenderTask) -> None:
        learnt_for, shape = _learnt_for(task), needs_of(task.request).batch_shape
        self._send(
            BatchLearnt(
                shape=shape,
                work=step_work(task.request),
                bound=self.of(task),
                seconds=self._times.fastest(learnt_for),
                fits=self._times.fits(learnt_for),
            )
        )


def _may_grow(task: RenderTask) -> bool:
    return task.together_max > 1 and batch_key(task.request) is not None


def _learnt_for(task: RenderTask) -> str:
    """The shape of its largest pass, and what its steps do: what else one takes for them says nothing of the other."""
    return f"{needs_of(task.request).batch_shape} {step_work(task.request)}".rstrip()
