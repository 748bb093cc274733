"""Renders jobs whose model is an upscaler: the image that they name, enlarged. Import this only in the child."""

from collections.abc import Mapping

import numpy as np
import torch

from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.gpu_runner.protocol.memory_rungs import HELD_RUNGS, Rung
from dreamforge.gpu_runner.protocol.recipe import Engine, recipe_for
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask
from dreamforge.gpu_runner.rendering.prepared_inputs import image_of
from dreamforge.gpu_runner.rendering.renderer import (
    ModelKey,
    OnStep,
    RenderedImage,
    RenderFailed,
    RenderWarning,
    first_line,
)
from dreamforge.gpu_runner.rendering.resizing import Target, resized
from dreamforge.gpu_runner.rendering.scanlines import sub_filtered
from dreamforge.gpu_runner.rendering.upscalers import LoadedUpscaler, UpscalerCache


class UpscaleRenderer:
    """Enlarges on `device`; the last upscaler used stays in memory. In float32, whatever pipelines have."""

    def __init__(self, device: torch.device, engine: Engine) -> None:
        self._upscalers = UpscalerCache(device)
        self._engine = engine.model_copy(update={"dtype": "float32"})

    def is_resident(self, model: ModelKey) -> bool:
        """Whether `render` would begin at once."""
        return _files(model) in self._upscalers

    def load(self, model: ModelKey) -> tuple[int, tuple[str, ...]]:
        """Its bytes; no pipeline has to leave for it. Errors: RenderFailed."""
        return self._get(model).size_bytes, ()

    def warnings(self, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What was done to the image before. Errors: RenderFailed(invalid_request)."""
        notes = image_of(task).notes
        return (RenderWarning(WarningCode.INPUT_CONVERTED, f"init_image: {', '.join(notes)}"),) if notes else ()

    def rung_refusals(self, task: RenderTask) -> Mapping[Rung, str]:  # noqa: ARG002 - the same for any
        """All that changes how a model is held: an upscaler is small, and goes over its image in tiles anyway."""
        return dict.fromkeys(HELD_RUNGS, "it is an upscaler")

    def render(self, task: RenderTask, seed: int, on_step: OnStep) -> RenderedImage:
        """The image enlarged by the network, and brought to the size of the request. Errors: RenderFailed."""
        upscaler = self._get(ModelKey.of_task(task))
        try:
            large = upscaler.enlarged(image_of(task).image)
        except torch.OutOfMemoryError as error:
            self.release()
            raise RenderFailed(FailureReason.OUT_OF_MEMORY, first_line(error)) from error
        image, _ = resized(large, Target(task.output_px, task.request.resize_mode or "stretch"))
        on_step(1, 1, None)
        recipe = recipe_for(task, seed, self._engine, pipeline=type(upscaler.net).__name__, sampler="none")
        # Nothing is rendered again, so there is no share of it.
        return RenderedImage(sub_filtered(np.asarray(image)), recipe.model_copy(update={"strength": None}))

    def release(self) -> None:
        """Let the upscaler go."""
        self._upscalers.release()

    def _get(self, model: ModelKey) -> LoadedUpscaler:
        return self._upscalers.get(model.model_id, _files(model))


def _files(model: ModelKey) -> ModelFiles:
    return ModelFiles(path=str(model.path), digest=model.digest)
