"""Which images are rendered in one run. Pure: images in, batches out."""

from collections.abc import Callable, Hashable, Sequence

from dreamforge.contracts.request.batch_key import batch_key
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage

RenderBatch = tuple[TaskImage, ...]
Bound = Callable[[RenderTask], int]
Key = Callable[[TaskImage], Hashable]


def run_key(image: TaskImage) -> Hashable:
    """What images of one run must share: the key of their requests, and the files. One that is alone has its own."""
    task = image.task
    if (key := batch_key(task.request)) is None:
        return task.task_id, image.index
    return key, task.model_dump_json(include={"model", "assets", "tier", "rungs"})


def next_batch(
    waiting: Sequence[TaskImage], bound: Bound, key_of: Key = run_key
) -> tuple[RenderBatch, tuple[TaskImage, ...]]:
    """The first image with those that go with it, in order, and the rest. `waiting` has at least one.

    The bound is the least that a task in the batch states. The key of an image is asked for only if it may have
    company.
    """
    if (most := bound(waiting[0].task)) == 1:
        return (waiting[0],), tuple(waiting[1:])
    key = key_of(waiting[0])
    batch: list[TaskImage] = []
    rest: list[TaskImage] = []
    for image in waiting:
        allowed = min(most, bound(image.task))
        if len(batch) < allowed and key_of(image) == key:
            batch.append(image)
            most = allowed
        else:
            rest.append(image)
    return tuple(batch), tuple(rest)


def form_batches(waiting: Sequence[TaskImage], bound: Bound) -> tuple[RenderBatch, ...]:
    """All batches in their order, as long as no bound changes."""
    batches: list[RenderBatch] = []
    while waiting:
        batch, waiting = next_batch(waiting, bound)
        batches.append(batch)
    return tuple(batches)


def halves(batch: RenderBatch) -> tuple[RenderBatch, RenderBatch]:
    """A batch of two or more in two."""
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]
