"""From a request in the log to a task for the child: models become folders, uploads become files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from dreamforge.contracts.errors import SizeNotSupported
from dreamforge.contracts.events import FailureReason, JobAssigned
from dreamforge.contracts.fleet import batch_shape
from dreamforge.contracts.models.descriptor import Tier
from dreamforge.contracts.models.vram import images_that_fit
from dreamforge.contracts.placement import OBSERVED_MARGIN_PART, Needs, needs_of
from dreamforge.contracts.request.batch_key import step_work
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask
from dreamforge.gpu_runner.supervisor.input_cache import InputCache
from dreamforge.gpu_runner.supervisor.learnt_memory import LearntMemory, ShapeMemory
from dreamforge.gpu_runner.supervisor.local_models import LocalModel
from dreamforge.gpu_runner.supervisor.task_monitor import AttemptLost


@dataclass(frozen=True, slots=True)
class RenderTaskFactory:
    """Makes tasks from what this runner has. `preview_seconds`: the least time between two previews; None: none.

    `batch_max`: most images in one run, if so many fit into `budget_bytes()`.
    """

    models: Mapping[str, LocalModel]
    inputs: InputCache
    preview_seconds: float | None = None
    batch_max: int = 1
    budget_bytes: Callable[[], int] = lambda: 0
    #: What was learnt of a shape on this device; None: nothing is kept.
    learnt: LearntMemory | None = None

    async def task_for(
        self, task_id: str, request: RenderRequest, assigned: JobAssigned, images: tuple[int, ...]
    ) -> RenderTask:
        """What the child is asked for: these images. Errors: AttemptLost (model_missing, invalid_request)."""
        inputs = {sha256: await self.inputs.fetch(sha256) for sha256 in request.uploads}
        model = self._model(request.model_id)
        tier = _tier(model, assigned.tier)
        shape = batch_shape(request.model_id, request.width_px, request.height_px, request.frames or 1)
        learnt = self.learnt.of(shape) if self.learnt else None
        runs = self.learnt.of(needs_of(request).batch_shape) if self.learnt else None
        fits = (runs.fits if runs else None) or self.batch_max
        try:
            return RenderTask(
                task_id=task_id,
                request=request,
                model=self._files(request.model_id),
                assets={model_id: self._files(model_id) for model_id in request.assets},
                inputs=inputs,
                tier=tier,
                preview_seconds=self.preview_seconds,
                together_max=min(fits, self._together_max(model, tier, request)),
                batch_seconds=runs.batch_seconds(step_work(request)) if runs else {},
                rungs=learnt.rungs if learnt else (),
                images=images,
            )
        except ValidationError as error:
            raise AttemptLost(FailureReason.INVALID_REQUEST, str(error), retryable=False) from None

    def _peaks_of(self, needs: Needs, tier: str) -> ShapeMemory | None:
        """What was seen of its kind of run in a tier, else of plain ones."""
        if self.learnt is None:
            return None
        own = self.learnt.of(needs.memory_shape)
        return own if tier in own.peaks else self.learnt.of(needs.batch_shape)

    def _together_max(self, model: LocalModel, tier: Tier | None, request: RenderRequest) -> int:
        """As many images of a request as fit into memory with its model and assets: as observed, else as estimated."""
        profile = tier.vram if tier else model.descriptor.all_tiers[0].vram
        assets_bytes = sum(self._model(each).descriptor.vram.resident_bytes for each in request.assets)
        named = tier.name if tier else ""
        learnt = self._peaks_of(needs_of(request), named)
        further_bytes = learnt.further_bytes(named) if learnt else None
        if learnt and further_bytes and named in learnt.peaks:
            left_bytes = self.budget_bytes() - assets_bytes - profile.overhead_bytes - learnt.peaks[named]
            return min(
                self.batch_max, 1 + max(0, left_bytes) // (further_bytes + further_bytes // OBSERVED_MARGIN_PART)
            )
        needs = needs_of(request)
        size = {"height_px": needs.height_px, "width_px": needs.width_px, "frames": needs.frames}
        try:
            return min(self.batch_max, images_that_fit(profile, self.budget_bytes() - assets_bytes, **size))
        except SizeNotSupported:
            return 1  # the render refuses it, in words of its own

    def _files(self, model_id: str) -> ModelFiles:
        model = self._model(model_id)
        return ModelFiles(path=str(model.folder), digest=model.descriptor.digest)

    def _model(self, model_id: str) -> LocalModel:
        if (model := self.models.get(model_id)) is None:
            raise AttemptLost(FailureReason.MODEL_MISSING, f"this runner does not have model {model_id!r}")
        return model


def _tier(model: LocalModel, name: str | None) -> Tier | None:
    """The tier that the scheduler chose. Errors: AttemptLost where our descriptor is another one than the log's."""
    if name is None:
        return None
    if (tier := model.descriptor.tier(name)) is None:
        message = f"{model.descriptor.model_id} has no tier {name!r} on this runner"
        raise AttemptLost(FailureReason.MODEL_MISSING, message)
    return tier
