"""Which rungs of the memory ladder each shape needs, and what the owners of its tasks are told of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from dreamforge.contracts.events import WarningCode
from dreamforge.contracts.fleet import batch_shape, memory_shape
from dreamforge.contracts.placement import needs_of
from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.gpu_runner.protocol.memory_rungs import HELD_RUNGS, QUANTISED_TO, Rung
from dreamforge.gpu_runner.protocol.messages import MemoryObserved, RungsLearnt, Warned
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.renderer import Renderer, RenderFailed
from dreamforge.gpu_runner.worker.memory_ladder import LOSSY, LadderState, NextRung, next_rung
from dreamforge.gpu_runner.worker.open_tasks import FAILURE_CHARS_MAX, short

CODES = {
    Rung.RELEASE: WarningCode.MEMORY_RELEASED,
    Rung.SMALLER_BATCH: WarningCode.MEMORY_SMALLER_BATCH,
    Rung.OFFLOAD_MODEL: WarningCode.MEMORY_OFFLOAD_MODEL,
    Rung.OFFLOAD_GROUP: WarningCode.MEMORY_OFFLOAD_GROUP,
    Rung.TILED_DECODE: WarningCode.MEMORY_TILED_DECODE,
    Rung.FLOAT8_STORAGE: WarningCode.MEMORY_FLOAT8_STORAGE,
    Rung.QUANTISED_WEIGHTS: WarningCode.MEMORY_QUANTISED_WEIGHTS,
}
WORDS = {
    Rung.RELEASE: "other models left the memory",
    Rung.SMALLER_BATCH: "fewer images are rendered at a time",
    Rung.OFFLOAD_MODEL: "parts of the model wait in the host's memory",
    Rung.OFFLOAD_GROUP: "layers of the model wait in the host's memory",
    Rung.TILED_DECODE: "the image is decoded tile by tile, which may leave faint seams",
    Rung.FLOAT8_STORAGE: "the denoiser's weights are kept as 8-bit floats, which changes pixels",
    Rung.QUANTISED_WEIGHTS: f"the denoiser's weights are quantised to {QUANTISED_TO}, which changes the picture",
}


class MemoryRungsTaken:
    """The rungs of each shape in this process. Whatever is learnt is told to the supervisor, which keeps it."""

    def __init__(self, renderer: Renderer, send: Callable[[MemoryObserved | RungsLearnt | Warned], None]) -> None:
        self._renderer, self._send = renderer, send
        self._rungs: dict[str, tuple[Rung, ...]] = {}
        self._exhausted: set[str] = set()
        self._warned: set[tuple[str, Rung]] = set()

    def of(self, image: TaskImage) -> TaskImage:
        """The image, its model held as its shape needs it."""
        task = image.task
        known = {*task.rungs, *self._rungs.get(_shape(task), ())} - _unfit(task)
        rungs = tuple(rung for rung in Rung if rung in known)
        return image if rungs == task.rungs else replace(image, task=task.model_copy(update={"rungs": rungs}))

    def take(self, batch: Sequence[TaskImage], failure: RenderFailed) -> NextRung:
        """The rung for a run that failed, from now on in use for its shape; its owners are told."""
        task = batch[0].task
        state = LadderState(
            batch=len(batch),
            held=task.held,
            others_left=any(model_id != task.request.model_id for model_id in failure.released),
            strict=_strict(task),
            quantised_allowed=_allows_quantised(task),
            refusals=self._renderer.rung_refusals(task),
        )
        taken = next_rung(state)
        if taken.rung is not None:
            if taken.rung in HELD_RUNGS:
                self._rungs[_shape(task)] = (*self._rungs.get(_shape(task), ()), *task.rungs, taken.rung)
            for each in {image.task.task_id: image.task for image in batch}.values():
                self._warn(each, taken.rung, failure, taken.reasons)
            return taken
        self._warn_not_quantised(batch, state)
        if not task.assets:
            self._exhausted.add(_shape(task))
            self._send(MemoryObserved(shape=_shape(task), tier=_tier(task), exhausted=True))
        return taken

    def worked(self, batch: Sequence[TaskImage]) -> None:
        """A run ended well: what it took is worth keeping."""
        task = batch[0].task
        if task.rungs:
            peak_bytes = self._renderer.peak_bytes()
            self._send(RungsLearnt(shape=_shape(task), rungs=task.rungs, peak_bytes=peak_bytes))
        if not _is_plain(batch):
            return
        observed = self._renderer.run_peak_bytes(task)
        fits_again = not task.request.quantised_to and _shape(task) in self._exhausted
        if fits_again:
            self._exhausted.discard(_shape(task))
        if observed is not None or fits_again:
            self._send(self._observed(batch, observed))

    def _observed(self, batch: Sequence[TaskImage], peak_bytes: int | None) -> MemoryObserved:
        task = batch[0].task
        shape = memory_shape(_shape(task), task.request.quantised_to)
        return MemoryObserved(shape=shape, tier=_tier(task), peak_bytes=peak_bytes, images=len(batch))

    def ended(self, tasks: Sequence[RenderTask]) -> None:
        """No further warnings come of these tasks."""
        gone = {task.task_id for task in tasks}
        self._warned = {(task_id, rung) for task_id, rung in self._warned if task_id not in gone}

    def _warn_not_quantised(self, batch: Sequence[TaskImage], state: LadderState) -> None:
        """Its owner allowed the last rung, and this runner cannot take it: another one may."""
        why = state.refusals.get(Rung.QUANTISED_WEIGHTS)
        if why is None or not state.quantised_allowed or state.strict:
            return
        message = f"out of memory, and the denoiser's weights could not be quantised to {QUANTISED_TO}: {why}"
        for task in {image.task.task_id: image.task for image in batch}.values():
            warning = Warned(
                task_id=task.task_id,
                code=WarningCode.MEMORY_NOT_QUANTISED,
                message=short(message),
                words=(Rung.QUANTISED_WEIGHTS,),
            )
            self._send(warning)

    def _warn(self, task: RenderTask, rung: Rung, failure: RenderFailed, reasons: str) -> None:
        """Once for each task and rung: the log has one warning of a code."""
        if (task.task_id, rung) in self._warned:
            return
        self._warned.add((task.task_id, rung))
        peak = readable_size(self._renderer.peak_bytes())
        left_out = f" (not used: {reasons})" if reasons else ""
        failed = short(failure.message, FAILURE_CHARS_MAX)
        message = f"out of memory ({failed}; peak so far {peak}), so {WORDS[rung]}{left_out}"
        self._send(Warned(task_id=task.task_id, code=CODES[rung], message=short(message), words=(rung,)))


def _shape(task: RenderTask) -> str:
    request = task.request
    return batch_shape(request.model_id, request.width_px, request.height_px, request.frames or 1)


def _tier(task: RenderTask) -> str:
    return task.tier.name if task.tier else ""


def _is_plain(batch: Sequence[TaskImage]) -> bool:
    """Whether a run was of a shape as placement knows it: no copies, no assets, no second pass."""
    request, assets = batch[0].task.request, batch[0].task.assets
    if request.geometry is not None or assets:
        return False
    return needs_of(request).batch_shape == _shape(batch[0].task)


def _unfit(task: RenderTask) -> set[Rung]:
    """Rungs that other tasks of its shape may need, and that this one cannot be rendered with."""
    unfit = set(LOSSY) if _strict(task) else set()
    if not _allows_quantised(task) or task.request.loras or task.request.quantised_to:
        unfit.add(Rung.QUANTISED_WEIGHTS)
    return unfit | {Rung.TILED_DECODE} if task.request.seamless else unfit


def _allows_quantised(task: RenderTask) -> bool:
    return task.request.allow_quantised == QUANTISED_TO


def _strict(task: RenderTask) -> bool:
    return task.request.determinism == "strict"
