"""Images beside the prompt, by IP-Adapters for Stable Diffusion and SDXL. Import this only in the child."""

import gc
from collections.abc import Sequence
from typing import Any

import torch

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.step_window import window_steps
from dreamforge.contracts.request.values import ImagePromptUse
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import (
    ForAll,
    Keywords,
    RenderedPixels,
    RenderFeature,
    RunPass,
    StepChange,
)
from dreamforge.gpu_runner.rendering.image_prompts import adapter_uses
from dreamforge.gpu_runner.rendering.ip_adapters import FittedAdapters, fitted_adapters
from dreamforge.gpu_runner.rendering.load_report import report_warnings
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.prepared_inputs import square_of
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed, RenderWarning
from dreamforge.gpu_runner.rendering.text_encoders import call_parameters

KEYWORD = "ip_adapter_image_embeds"


class IpAdapters(RenderFeature):
    """`image_prompts` of a request, in every pass; the adapters of the last request stay beside the pipelines."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._fitted: FittedAdapters | None = None

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What their files hold that no image will show. Errors: RenderFailed."""
        if not adapter_uses(task) or _unable(pipeline):
            return ()
        fitted = self._fitted_to(pipeline, task)
        said = zip(fitted.keys, fitted.encoders, strict=True)
        return tuple(warning for key, each in said for warning in report_warnings(each.report, key.model_id))

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where this pipeline reads no image beside its prompt."""
        if adapter_uses(task) and _unable(pipeline):
            message = f"{type(pipeline).__name__} takes no IP-Adapter"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
        """Around a pass: the U-Net reads images inside."""
        if not (uses := adapter_uses(context.task)):
            return proceed()
        fitted = self._fitted_to(pipeline, context.task)
        fitted.set_scales(_scales(uses, 0, context.current.steps_made))
        with fitted.installed(self._device):
            return proceed()

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:
        """What the adapters read of the images, which pipelines repeat for each image of a run."""
        return {KEYWORD: ForAll(lambda: self._seen(context, pipeline))} if adapter_uses(context.task) else {}

    def _seen(self, context: PassContext, pipeline: Pipeline) -> list[torch.Tensor]:
        """A tensor for each use. Errors: RenderFailed(invalid_request) if a file is no image."""
        uses = adapter_uses(context.task)
        encoders = self._fitted_to(pipeline, context.task).encoders
        squares = (square_of(context.task, use.image, each.side_px) for use, each in zip(uses, encoders, strict=True))
        seen = [each.seen(square) for each, square in zip(encoders, squares, strict=True)]
        return seen if _is_guided(context, pipeline) else [each[1:] for each in seen]

    def before_step(self, context: PassContext, pipeline: Pipeline) -> StepChange | None:
        """Each acts in its own steps."""
        if not (uses := adapter_uses(context.task)):
            return None
        fitted = self._fitted_to(pipeline, context.task)
        return lambda step, steps: fitted.set_scales(_scales(uses, step, steps))

    def release(self) -> None:
        """Let the adapters go."""
        if self._fitted is not None:
            self._fitted = None
            gc.collect()

    def _fitted_to(self, pipeline: Pipeline, task: RenderTask) -> FittedAdapters:
        unet = pipeline.components["unet"]
        keys = [ModelKey.of_asset(use.model_id, task) for use in adapter_uses(task)]
        if self._fitted is None or not self._fitted.fits(keys, unet):
            self.release()
            self._fitted = fitted_adapters(keys, unet, self._device)
        return self._fitted


def _scales(uses: Sequence[ImagePromptUse], step: int, steps: int) -> list[float]:
    return [use.scale if step in window_steps(use.start, use.end, steps) else 0.0 for use in uses]


def _unable(pipeline: Pipeline) -> bool:
    unet: Any = pipeline.components.get("unet")  # Any: a class of each family
    return unet is None or unet.encoder_hid_proj is not None or KEYWORD not in call_parameters(pipeline)


def _is_guided(context: PassContext, pipeline: Any) -> bool:  # Any: its parts are in no type
    """Whether the pipeline evaluates a negative prompt too, by its own rule (`do_classifier_free_guidance`)."""
    request = context.request
    scheduled = request.guidance_schedule is not None
    return (scheduled or request.guidance_scale > 1) and pipeline.unet.config.time_cond_proj_dim is None
