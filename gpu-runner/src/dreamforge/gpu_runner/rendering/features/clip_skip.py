"""CLIP skip: prompts encoded without the last layers of the text encoder. Import this only in the child."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.gpu_runner.rendering.text_encoders import SUFFIXES, call_parameters


class ClipSkip(RenderFeature):
    """`clip_skip` of a request."""

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where the pipeline has no such setting, or too few layers."""
        skipped = task.request.clip_skip
        if skipped is None:
            return
        if "clip_skip" not in call_parameters(pipeline):
            raise RenderFailed(FailureReason.INVALID_REQUEST, f"{type(pipeline).__name__} has no CLIP skip")
        most = most_skipped(pipeline)
        if skipped > most:
            message = f"clip_skip {skipped}: the text encoders of this model can leave out {most} layers"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def encoding(self, context: PassContext) -> Keywords:
        """The keyword of the pipeline and of its `encode_prompt`."""
        skipped = context.task.request.clip_skip
        return {} if skipped is None else {"clip_skip": skipped}

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
        """With the text encoders as diffusers expects them."""
        if context.task.request.clip_skip is None:
            return proceed()
        with _named_as_before(pipeline):
            return proceed()


def most_skipped(pipeline: Pipeline) -> int:
    """How many layers can be left out so that one stays; where prompts are pooled, the last is never used."""
    layers = [encoder.config.num_hidden_layers for encoder in _encoders(pipeline)]
    unused = 2 if len(layers) > 1 else 1
    return min(layers, default=0) - unused


def _encoders(pipeline: Pipeline) -> list[Any]:  # Any: transformers' classes have no common type
    found = (pipeline.components.get(f"text_encoder{suffix}") for suffix in SUFFIXES)
    return [encoder for encoder in found if encoder is not None]


@contextmanager
def _named_as_before(pipeline: Pipeline) -> Iterator[None]:
    """diffusers 0.42 asks a CLIPTextModel for the part `text_model`, which transformers 5.23 has merged into it."""
    merged = [encoder for encoder in _encoders(pipeline) if not hasattr(encoder, "text_model")]
    for encoder in merged:
        encoder.__dict__["text_model"] = encoder  # not setattr: that would make it a module of itself
    try:
        yield
    finally:
        for encoder in merged:
            encoder.__dict__.pop("text_model", None)
