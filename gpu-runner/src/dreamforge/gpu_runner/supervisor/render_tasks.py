"""From a request in the log to a task for the child: models become folders, uploads become files."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from dreamforge.contracts.events import FailureReason, JobAssigned
from dreamforge.contracts.models.descriptor import Tier
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask
from dreamforge.gpu_runner.supervisor.input_cache import InputCache
from dreamforge.gpu_runner.supervisor.local_models import LocalModel
from dreamforge.gpu_runner.supervisor.task_monitor import AttemptLost


@dataclass(frozen=True, slots=True)
class RenderTaskFactory:
    """Makes tasks from what this runner has. `preview_seconds`: the least time between two previews; None: none."""

    models: Mapping[str, LocalModel]
    inputs: InputCache
    preview_seconds: float | None = None

    async def task_for(
        self, task_id: str, request: RenderRequest, assigned: JobAssigned, images: tuple[int, ...]
    ) -> RenderTask:
        """What the child is asked for: these images. Errors: AttemptLost (model_missing, invalid_request)."""
        inputs = {sha256: await self.inputs.fetch(sha256) for sha256 in request.uploads}
        try:
            return RenderTask(
                task_id=task_id,
                request=request,
                model=self._files(request.model_id),
                assets={model_id: self._files(model_id) for model_id in request.assets},
                inputs=inputs,
                tier=_tier(self._model(request.model_id), assigned.tier),
                preview_seconds=self.preview_seconds,
                images=images,
            )
        except ValidationError as error:
            raise AttemptLost(FailureReason.INVALID_REQUEST, str(error), retryable=False) from None

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
