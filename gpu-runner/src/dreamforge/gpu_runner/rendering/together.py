"""The arguments of a run of several images, from those of each. Import this only in the child."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF
from PIL.Image import Image

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.rendering.hooks import ForAll, Keywords
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: Pipelines that pad every prompt to one length, so that no image of a run depends on the prompt of another. Tested on
#: tiny models of each family (tests/integration/test_together.py).
TO_ONE_LENGTH = frozenset(
    {
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusion3Pipeline",
        "FluxPipeline",
        "FluxKontextPipeline",
        "Flux2Pipeline",
        "Flux2KleinPipeline",
        "ChromaPipeline",
        "HiDreamImagePipeline",
        "SanaPipeline",
        "SanaSprintPipeline",
    }
)
#: Those that would pad to the longest prompt of a run: how many tokens of a prompt are one block, which a prompt is
#: padded to alone as well. Prompts of as many blocks need no more of it, so they can be in one run.
TOKENS_A_BLOCK: Mapping[str, int] = {
    "QwenImagePipeline": 1,
    "QwenImageEditPipeline": 1,
    "ZImagePipeline": SEQ_MULTI_OF,
}
# In neither: QwenImageEditPlusPipeline, which refuses more than one prompt (diffusers 0.42.1), and what renders videos,
# of which one alone fills a device.


def can_run_together(pipeline: Pipeline) -> bool:
    """Whether a pipeline renders several prompts in one run, each as if the others were not there."""
    return type(pipeline).__name__ in TO_ONE_LENGTH or tokens_a_block(pipeline) is not None


def tokens_a_block(pipeline: Pipeline) -> int | None:
    """Where prompts of one run must be of as many blocks: the tokens of one; None where any may be in one run."""
    return TOKENS_A_BLOCK.get(type(pipeline).__name__)


def merged_keywords(each: Sequence[Keywords]) -> Keywords:
    """The keywords of one call for several images: texts and images as a list, tensors as one, the rest as it is.

    A list is as it is, since it has something for each ControlNet, and not for each image.

    Those of one image stay as they are. Errors: RenderFailed(invalid_request) where images cannot be in one run, for
    one because a longer prompt has more embeddings; smaller batches are tried then.
    """
    if len({frozenset(keywords) for keywords in each}) > 1:
        raise apart("prompts of another form")
    return {name: _merged(name, [keywords[name] for keywords in each]) for name in each[0]}


def _merged(name: str, values: list[Any]) -> Any:  # Any: see `hooks.Keywords`
    first = values[0]
    if isinstance(first, ForAll):
        return first.make()
    if len(values) == 1:
        return first
    if isinstance(first, str | Image):
        return values  # of an image each too: its latents come from the generator of its place
    if isinstance(first, torch.Tensor):
        if any(value.shape != first.shape for value in values):
            raise apart(f"{name} of another length")
        return torch.cat(values)
    if any(value != first for value in values):
        raise apart(f"another {name}")
    return first


def apart(why: str) -> RenderFailed:
    """The failure of a run of images that do not go together."""
    return RenderFailed(FailureReason.INVALID_REQUEST, f"not in one run: {why}")
