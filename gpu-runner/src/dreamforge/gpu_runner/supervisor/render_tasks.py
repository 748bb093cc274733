"""From a request in the log to a task for the child: models become folders, uploads become files."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from dreamforge.contracts.events import FailureReason, JobAssigned
from dreamforge.contracts.models.descriptor import Tier
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.render_task import ControlTask, InputImage, LoraTask, RenderTask, UpscaleTask
from dreamforge.gpu_runner.supervisor.input_cache import Inputs
from dreamforge.gpu_runner.supervisor.local_models import LocalModel
from dreamforge.gpu_runner.supervisor.task_monitor import AttemptLost


@dataclass(frozen=True, slots=True)
class Tasks:
    """Makes tasks from what this runner has. `preview_seconds`: the least time between two previews; None: none."""

    models: Mapping[str, LocalModel]
    inputs: Inputs
    preview_seconds: float | None = None

    async def task_for(self, task_id: str, request: RenderRequest, assigned: JobAssigned) -> RenderTask:
        """What the child is asked for. Errors: AttemptLost (model_missing, invalid_request)."""
        files = {sha256: await self.inputs.fetch(sha256) for sha256 in request.uploads}
        try:
            return self._task(task_id, request, assigned, files)
        except ValidationError as error:
            raise AttemptLost(FailureReason.INVALID_REQUEST, str(error), retryable=False) from None

    def _task(
        self, task_id: str, request: RenderRequest, assigned: JobAssigned, files: Mapping[str, InputImage]
    ) -> RenderTask:
        model = self._model(request.model_id)
        return RenderTask(
            task_id=task_id,
            model_id=request.model_id,
            model_path=str(model.folder),
            model_digest=model.descriptor.digest,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            width_px=request.width_px,
            height_px=request.height_px,
            steps=request.steps,
            guidance_scale=request.guidance_scale,
            seeds=request.seeds(),
            sampler=request.sampler,
            init_image=files.get(request.init_image or ""),
            mask_image=files.get(request.mask_image or ""),
            strength=request.strength,
            loras=tuple(self._lora(use.model_id, use.weight) for use in request.loras),
            control=self._control(request, files),
            upscale=UpscaleTask(**request.upscale.model_dump(exclude={"factor"})) if request.upscale else None,
            tier=_tier(model, assigned.tier),
            preview_seconds=self.preview_seconds,
        )

    def _lora(self, model_id: str, weight: float) -> LoraTask:
        lora = self._model(model_id)
        return LoraTask(model_id=model_id, path=str(lora.folder), digest=lora.descriptor.digest, weight=weight)

    def _control(self, request: RenderRequest, files: Mapping[str, InputImage]) -> ControlTask | None:
        if (use := request.control) is None:
            return None
        net = self._model(use.model_id)
        return ControlTask(
            model_id=use.model_id,
            path=str(net.folder),
            digest=net.descriptor.digest,
            image=files[use.image],
            scale=use.scale,
        )

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
