"""Words of the prompts that stand for embeddings (textual inversion). Import this only in the child.

diffusers' `load_textual_inversion` adds tokens to the tokenizer and rows to the encoder's matrix, which every later
image shares. Here each word becomes placeholders that only a copy of the tokenizer knows, one for each vector, and
while a pass runs, the encoder puts the vectors in their places. Its weights are never touched.
"""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import AddedToken

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.embedding_words import with_words_replaced
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.embedding_vectors import Vectors, vectors_of
from dreamforge.gpu_runner.rendering.hooks import RenderedPixels, RenderFeature, RunPass
from dreamforge.gpu_runner.rendering.passes import Pass, PassContext
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.placeholder_rows import placeholder_rows, token_embedding_of
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: The tokenizer that goes with each encoder.
TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


class Embeddings(RenderFeature):
    """`embeddings` of a request."""

    def __init__(self) -> None:
        # Any: transformers' tokenizers have no common type. Weak: a model that leaves memory takes its copies along.
        self._copies: WeakKeyDictionary[Any, dict[int, Any]] = WeakKeyDictionary()

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed (invalid_request where an embedding is for other encoders, model_broken)."""
        own = _widths(pipeline)
        for use, each in zip(task.request.embeddings, _vectors(task), strict=True):
            if {part: vectors.shape[1] for part, vectors in each.items()} != own:
                its = ", ".join(f"{part} of width {vectors.shape[1]}" for part, vectors in each.items())
                message = f"embedding {use.model_id} does not fit {task.request.model_id}: it is for {its}, not {own}"
                raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def plan(self, task: RenderTask, passes: tuple[Pass, ...]) -> tuple[Pass, ...]:
        """The prompts of every pass with placeholders for words. Errors: RenderFailed(model_broken)."""
        if not task.request.embeddings:
            return passes
        texts = _placeholders_by_word(task)
        return tuple(replace(each, request=_rewritten(each.request, texts)) for each in passes)

    def run(self, context: PassContext, pipeline: Pipeline, proceed: RunPass) -> RenderedPixels:
        """Around a pass: its prompts are encoded inside."""
        if not context.task.request.embeddings:
            return proceed()
        found = _vectors(context.task)
        rows: dict[str, list[Any]] = {part: [each[part] for each in found] for part in found[0]}
        with ExitStack() as stack:
            for part, vectors in rows.items():
                tokenizer = self._copy(getattr(pipeline, TOKENIZERS[part]), sum(len(each) for each in vectors))
                stack.enter_context(_tokenizing_with(pipeline, TOKENIZERS[part], tokenizer))
                first = tokenizer.convert_tokens_to_ids(_placeholder(0))
                stack.enter_context(placeholder_rows(getattr(pipeline, part), first, vectors))
            return proceed()

    def _copy(self, tokenizer: Any, count: int) -> Any:  # Any: see above
        """The tokenizer with so many placeholders."""
        copies = self._copies.setdefault(tokenizer, {})
        if count not in copies:
            copies.clear()  # one is enough: jobs of one kind come together
            copies[count] = made = copy.deepcopy(tokenizer)
            made.add_tokens([AddedToken(_placeholder(number), normalized=False) for number in range(count)])
        return copies[count]


def _placeholder(number: int) -> str:
    """No bracket, colon or blank: nothing that weights or cuts prompts sees in it a mark of its own."""
    return f"<|forge-{number}|>"


def _vectors(task: RenderTask) -> tuple[Vectors, ...]:
    return tuple(vectors_of(use.model_id, task.assets[use.model_id]) for use in task.request.embeddings)


def _placeholders_by_word(task: RenderTask) -> dict[str, str]:
    """As many as each has vectors, numbered through."""
    texts, number = {}, 0
    for use, each in zip(task.request.embeddings, _vectors(task), strict=True):
        count = len(next(iter(each.values())))
        texts[use.word] = "".join(_placeholder(number + index) for index in range(count))
        number += count
    return texts


def _rewritten(request: RenderRequest, texts: dict[str, str]) -> RenderRequest:
    prompts = {
        name: with_words_replaced(getattr(request, name), texts, texts.__getitem__)
        for name in ("prompt", "negative_prompt")
    }
    return request.model_copy(update=prompts)


def _widths(pipeline: Pipeline) -> dict[str, int]:
    """How wide the vectors of each text encoder are, in pipelines where words can stand for embeddings."""
    parts = {part: pipeline.components.get(part) for part in TOKENIZERS}
    return {
        part: int(token_embedding_of(encoder).embedding_dim)
        for part, encoder in parts.items()
        if encoder is not None and type(encoder).__name__.startswith("CLIPText")
    }


@contextmanager
def _tokenizing_with(pipeline: Any, name: str, tokenizer: Any) -> Iterator[None]:  # Any: see above
    own = getattr(pipeline, name)
    setattr(pipeline, name, tokenizer)
    try:
        yield
    finally:
        setattr(pipeline, name, own)
