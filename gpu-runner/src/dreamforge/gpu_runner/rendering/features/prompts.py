"""Prompts as text: long ones are read to their end, and what is not read is reported.

A text encoder has a window (CLIP's is 77 tokens) and diffusers cuts what is beyond it. Where every encoder is
CLIP's, a longer prompt is encoded piece by piece and the pieces are laid end to end, which is what cross-attention
takes as well. Import this only in the child.
"""

import re
from collections.abc import Hashable, Iterator
from itertools import zip_longest
from typing import Any

import torch

from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.guidance_keyword import takes_negative
from dreamforge.gpu_runner.rendering.hooks import Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.passes import PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import RenderFailed, RenderWarning
from dreamforge.gpu_runner.rendering.text_encoders import (
    TextEncoder,
    call_parameters,
    text_encoders_of,
    tokens_as_read,
)
from dreamforge.gpu_runner.rendering.together import tokens_a_block

#: Words, with an apostrophe inside, and every other sign alone: an emoji can be unknown too.
PIECES = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
#: Our keyword for each tensor that `encode_prompt` gives, in its order; SDXL's gives all four.
EMBEDDINGS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
#: Of the tensors above, those with a row a token: (batch, tokens, width). The pooled ones are (batch, width).
BY_TOKEN = frozenset(EMBEDDINGS[:2])


class Prompts(RenderFeature):
    """`prompt` and `negative_prompt` of a request."""

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:
        """The words that the model does not know, and those that it does not read."""
        encoders = text_encoders_of(pipeline)
        texts = _each_once(text for each in task.passes for text in (each.prompt, each.negative_prompt))
        unknown = _each_once(word for text in texts for word in unknown_words(text, encoders))
        cut: tuple[str, ...] = ()
        if not reads_all(pipeline, encoders):
            cut = tuple(word for text in texts for word in cut_words(text, encoders))
        said = (
            (WarningCode.UNKNOWN_WORDS, f"the model does not know: {', '.join(unknown)}", unknown),
            (WarningCode.PROMPT_CUT, f"too long for the model, not read: {' '.join(cut)}", cut),
        )
        return tuple(RenderWarning(code, message, words) for code, message, words in said if words)

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where this family takes no negative prompt."""
        negative = any(each.negative_prompt for each in task.passes)
        if negative and not takes_negative(call_parameters(pipeline)):
            message = f"{type(pipeline).__name__} takes no negative prompt"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def form(self, pipeline: Pipeline, task: RenderTask) -> Hashable:
        """How long its prompts are, where that counts, and whether there is one to be guided away from."""
        return tuple(_form(pipeline, each.prompt, each.negative_prompt) for each in task.passes)

    def prompts(self, context: PassContext, pipeline: Pipeline, encoding: Keywords) -> Keywords:
        """As text where both fit, so that diffusers encodes them itself; else as embeddings."""
        encoders = text_encoders_of(pipeline)
        prompt, negative_prompt = context.request.prompt, context.request.negative_prompt
        pieces, negative_pieces = list(split(prompt, encoders)), list(split(negative_prompt, encoders))
        if max(len(pieces), len(negative_pieces)) > 1 and reads_all(pipeline, encoders):
            return _embeddings(pipeline, pieces, negative_pieces, encoding)
        negative = {"negative_prompt": negative_prompt} if negative_prompt else {}
        return {"prompt": prompt} | negative | dict(encoding)


def _form(pipeline: Pipeline, prompt: str, negative_prompt: str) -> Hashable:
    """Of the prompts of one pass."""
    if (block := tokens_a_block(pipeline)) is not None:
        counts = (tokens_as_read(pipeline, text) for text in (prompt, negative_prompt))
        return tuple(-(-count // block) for count in counts)
    encoders = text_encoders_of(pipeline)
    if reads_all(pipeline, encoders):
        pieces = max(len(list(split(text, encoders))) for text in (prompt, negative_prompt))
        if pieces > 1:
            return pieces
    return bool(negative_prompt)


def reads_all(pipeline: Pipeline, encoders: tuple[TextEncoder, ...]) -> bool:
    """Whether a long prompt can be read piece by piece: every encoder is CLIP's, and embeddings can be given."""
    takes = call_parameters(pipeline).keys()
    return bool(encoders) and all(encoder.is_clip for encoder in encoders) and takes >= BY_TOKEN


def _embeddings(
    pipeline: Any, pieces: list[str], negative_pieces: list[str], encoding: Keywords
) -> dict[str, Any]:  # Any: a pipeline's own method and tensors
    """Both prompts, each piece encoded alone by the pipeline's own method, the shorter one filled up with nothing."""
    encoded = [
        pipeline.encode_prompt(
            prompt=piece,
            device=pipeline._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            # None is not the empty text: for it some pipelines take zeros.
            negative_prompt=negative if negative_pieces else None,
            **encoding,
        )
        for piece, negative in zip_longest(pieces, negative_pieces, fillvalue="")
    ]
    return {
        # What stands for the whole prompt comes from its beginning, as it does where a prompt is cut.
        name: torch.cat(tensors, dim=1) if name in BY_TOKEN else tensors[0]
        for name, tensors in zip(EMBEDDINGS, zip(*encoded, strict=True), strict=False)
    }


def _each_once(words: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def unknown_words(text: str, encoders: tuple[TextEncoder, ...]) -> tuple[str, ...]:
    """The words that some encoder has no token for, each once, as they were written."""
    words: dict[str, str] = {}
    for word in PIECES.findall(text):
        words.setdefault(word.casefold(), word)
    return tuple(word for word in words.values() if not all(encoder.knows(word) for encoder in encoders))


def cut_words(text: str, encoders: tuple[TextEncoder, ...]) -> tuple[str, ...]:
    """The words at the end of a text that no encoder reads whole: those beyond the one that reads furthest."""
    rests = [_beyond(text, encoder) for encoder in encoders]
    return min(rests, key=len, default=())


def _beyond(text: str, encoder: TextEncoder) -> tuple[str, ...]:
    words, left = text.split(), encoder.window
    for number, word in enumerate(words):
        left -= encoder.count(word)
        if left < 0:
            return tuple(words[number:])
    return ()


def split(text: str, encoders: tuple[TextEncoder, ...]) -> Iterator[str]:
    """Pieces of a text that every encoder reads whole, cut between words; a text that fits is one piece, as it is.

    A word longer than a window (a language without spaces) is cut inside.
    """
    window = min((encoder.window for encoder in encoders), default=0)
    if not encoders or _longest(text, encoders) <= window:
        yield from (text,) if text else ()
        return
    piece: list[str] = []
    used = 0
    for word in _short_words(text, encoders, window):
        count = _longest(word, encoders)
        if piece and used + count > window:
            yield " ".join(piece)
            piece, used = [], 0
        piece.append(word)
        used += count
    yield " ".join(piece)


def _short_words(text: str, encoders: tuple[TextEncoder, ...], window: int) -> Iterator[str]:
    for word in text.split():
        if len(word) == 1 or _longest(word, encoders) <= window:
            yield word
        else:
            half = len(word) // 2
            yield from _short_words(f"{word[:half]} {word[half:]}", encoders, window)


def _longest(text: str, encoders: tuple[TextEncoder, ...]) -> int:
    return max(encoder.count(text) for encoder in encoders)
