"""Prompts of one run, encoded one by one where the pipeline would pad them to the longest. Only in the child.

Where all have as many blocks (see `together.TOKENS_A_BLOCK`), nothing is padded then that is not padded alone. It is
also the way to edit an image by several prompts: their pipeline reads one image for each text.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.together import apart, tokens_a_block

NAME = "encode_prompt"
#: Its keywords that have a text for each image.
TEXTS = ("prompt", "negative_prompt")
#: What `encode_prompt` gives: tensors of (batch, tokens, width), lists of (tokens, width), or None. Any: as elsewhere.
Answer = tuple[Any, ...]
Encode = Callable[..., Answer]


class SeparateTexts(RenderFeature):
    """Around `encode_prompt` of the pipelines that pad to the longest prompt."""

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
        """Inside of what keeps answers, so that a prompt has the same one in a run of several as alone."""
        block = tokens_a_block(context.base)
        if block is None:
            return proceed()
        own = vars(pipeline)
        before, encode = own.get(NAME), getattr(pipeline, NAME)
        own[NAME] = lambda **keywords: _one_by_one(encode, keywords, block)
        try:
            return proceed()
        finally:
            if before is None:
                del own[NAME]
            else:
                own[NAME] = before


def _one_by_one(encode: Encode, keywords: dict[str, Any], block: int) -> Answer:  # Any: as a pipeline has them
    """The answer to a question about several prompts, each of which is asked once. Errors: RenderFailed."""
    lists = {name: keywords[name] for name in TEXTS if isinstance(keywords.get(name), list)}
    rows = list(zip(*lists.values(), strict=True))
    answers = {row: encode(**keywords | dict(zip(lists, row, strict=True))) for row in dict.fromkeys(rows)}
    return joined([answers[row] for row in rows], block) if rows else encode(**keywords)


def joined(answers: Sequence[Answer], block: int) -> Answer:
    """The answer about all prompts. Errors: RenderFailed(invalid_request) where they have not as many blocks.

    >>> joined([([torch.zeros(3, 8)], None), ([torch.zeros(4, 8)], None)], block=4)[0][1].shape
    torch.Size([4, 8])
    """
    return tuple(_joined(parts, block) for parts in zip(*answers, strict=True))


def _joined(parts: Sequence[Any], block: int) -> Any:  # Any: see `Answer`
    first = parts[0]
    if first is None:
        return None
    if len({_blocks(part, block) for part in parts}) > 1:
        raise apart("prompts of another length")
    return torch.cat(list(parts)) if isinstance(first, torch.Tensor) else [each for part in parts for each in part]


def _blocks(part: torch.Tensor | list[torch.Tensor], block: int) -> tuple[int, ...]:
    """Of each prompt in a part of an answer."""
    rows = part if isinstance(part, list) else list(part)
    return tuple(-(-len(row) // block) for row in rows)
