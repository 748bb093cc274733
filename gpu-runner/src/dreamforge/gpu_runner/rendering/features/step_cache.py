"""Steps that change little are made in part: diffusers' first block cache. Lossy. Import this only in the child."""

from contextlib import ExitStack
from typing import Any

import diffusers

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: Those that can denoise; Wan 2.2 has one for noisy steps and one for the others.
DENOISERS = ("transformer", "transformer_2")


class StepCache(RenderFeature):
    """`step_cache` of a request: the threshold. The hooks are there for one run, so that no other one sees them."""

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where no part of this pipeline can be cached."""
        if task.request.step_cache is not None and not _cached(pipeline):
            message = f"{type(pipeline).__name__} has no step cache"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
        """Around a pass: the layers after the first are skipped where that one says that little has changed."""
        threshold = context.request.step_cache
        if threshold is None:
            return proceed()
        made: Any = diffusers.FirstBlockCacheConfig  # Any: it has no types
        with ExitStack() as undo:
            for part in _cached(pipeline):
                part.enable_cache(made(threshold=threshold))
                undo.callback(part.disable_cache)
            return proceed()


def _cached(pipeline: Pipeline) -> list[Any]:  # Any: diffusers' models have no common type with these methods
    parts = (pipeline.components.get(name) for name in DENOISERS)
    return [part for part in parts if hasattr(part, "enable_cache")]
