"""How closely the second of two transformers follows its prompt. Import this only in the child."""

from typing import Any

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed


class SecondGuidance(RenderFeature):
    """`guidance_scale_2` of a request: that of the steps after the boundary of Wan 2.2."""

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where one transformer makes all steps."""
        if task.request.guidance_scale_2 is not None and not _has_boundary(pipeline):
            message = f"guidance_scale_2 is of a second transformer, and this {type(pipeline).__name__} has one"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:  # noqa: ARG002
        """The number, where the request has one; without it diffusers takes the first scale."""
        value = context.request.guidance_scale_2
        return {} if value is None else {"guidance_scale_2": value}


def _has_boundary(pipeline: Any) -> bool:  # Any: a pipeline's configuration is in no type
    return getattr(pipeline.config, "boundary_ratio", None) is not None
