"""Images beside the prompt of FLUX: what Redux makes of them is read after the words. Import this only in the child."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from transformers import SiglipVisionModel

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.image_prompts import normalised, redux_uses
from dreamforge.gpu_runner.rendering.load_report import LoadReport, WeightsWrong, read_part, report_warnings
from dreamforge.gpu_runner.rendering.network_cache import NetworkCache
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.prepared_inputs import square_of
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed, RenderWarning
from dreamforge.gpu_runner.rendering.weights import inspected

#: Mean and standard deviation of SigLIP's colours (its preprocessor_config.json), of each channel.
MIDDLE = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class _Redux:
    """SigLIP, and what makes words of its patches."""

    key: ModelKey
    dtype: torch.dtype
    encoder: Any  # Any: the libraries' classes have no types
    embedder: Any
    report: LoadReport

    def words(self, task: RenderTask, sha256: str) -> torch.Tensor:
        """An image as words: (1, patches, width of a word)."""
        square = square_of(task, sha256, int(self.encoder.config.image_size))
        pixels = normalised(square, MIDDLE, MIDDLE).to(self.encoder.device, self.dtype)
        words: torch.Tensor = self.embedder(self.encoder(pixels).last_hidden_state).image_embeds
        return words


class Redux(RenderFeature):
    """`image_prompts` of a request, in every pass; the network of the last request stays beside the pipelines."""

    def __init__(self, device: torch.device) -> None:
        self._cache = NetworkCache(partial(_read, device=device))

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What their files hold that no image will show. Errors: RenderFailed(model_broken)."""
        if not redux_uses(task) or _width(pipeline) is None:
            return ()
        nets = dict.fromkeys(self._networks(task, pipeline))
        return tuple(warning for each in nets for warning in report_warnings(each.report, each.key.model_id))

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed (invalid_request where this pipeline reads other words, or not in all steps alike)."""
        uses, width = redux_uses(task), _width(pipeline)
        if not uses:
            return
        if width is None:
            raise _refused(f"{type(pipeline).__name__} takes no FLUX Redux")
        if any((use.start, use.end) != (0, 1) for use in uses):
            raise _refused("FLUX Redux acts in all steps: its words are read with those of the prompt")
        for each in self._networks(task, pipeline):
            if (made := each.embedder.config.txt_in_features) != width:
                what = f"{each.key.model_id} does not fit {task.request.model_id}"
                raise _refused(f"{what}: its words have {made} numbers, those of the model {width}")

    def prompts(self, context: PassContext, pipeline: Any, encoding: Keywords) -> Keywords | None:
        """The prompt's words, and those of the images after them. Errors: RenderFailed if a file is no image.

        Any: a pipeline's own method.
        """
        if not (uses := redux_uses(context.task)):
            return None
        device = pipeline._execution_device
        words, pooled, _ = pipeline.encode_prompt(context.request.prompt, None, device=device, **encoding)
        seen = [
            net.words(context.task, use.image).to(words.device, words.dtype) * use.scale
            for use, net in zip(uses, self._networks(context.task, pipeline), strict=True)
            if use.scale
        ]
        return {"prompt_embeds": torch.cat([words, *seen], dim=1), "pooled_prompt_embeds": pooled}

    def release(self) -> None:
        """Let them go."""
        self._cache.release()

    def _networks(self, task: RenderTask, pipeline: Pipeline) -> tuple[_Redux, ...]:
        """That of each use."""
        transformer: Any = pipeline.components["transformer"]
        return self._cache.take([ModelKey.of_asset(use.model_id, task) for use in redux_uses(task)], transformer.dtype)


def _read(key: ModelKey, dtype: torch.dtype, device: torch.device) -> _Redux:
    inspected(key.model_id, key.path)
    report = LoadReport()
    try:
        encoder = read_part(SiglipVisionModel, key.path / "image_encoder", "image_encoder", dtype, report)
        embedder = read_part(ReduxImageEncoder, key.path / "image_embedder", "image_embedder", dtype, report)
    except WeightsWrong as error:
        raise RenderFailed(FailureReason.MODEL_BROKEN, f"{key.model_id} does not load: {error}") from error
    return _Redux(key, dtype, encoder.to(device), embedder.to(device), report)


def _width(pipeline: Pipeline) -> int | None:
    """Of the words that a FLUX pipeline reads; None for one of another family."""
    transformer: Any = pipeline.components.get("transformer")
    reads_words = type(transformer).__name__ == "FluxTransformer2DModel"
    return int(transformer.config.joint_attention_dim) if reads_words else None


def _refused(message: str) -> RenderFailed:
    return RenderFailed(FailureReason.INVALID_REQUEST, message)
