"""The text encoders of a pipeline: how much of a prompt each reads, and which words it has tokens for.

Import this only in the child.
"""

import inspect
from dataclasses import dataclass
from typing import Any

from dreamforge.gpu_runner.rendering.pipeline import Pipeline

#: How diffusers numbers the encoders of one pipeline.
SUFFIXES = ("", "_2", "_3", "_4")


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """One text encoder of a pipeline by its tokenizer; `window` is how many tokens of a prompt it reads."""

    # Any: transformers' tokenizers have no common type.
    tokenizer: Any
    is_clip: bool
    window: int

    def count(self, text: str) -> int:
        """How many tokens a text is, without those that mark its ends."""
        return len(self._ids(text))

    def knows(self, word: str) -> bool:
        """False where the tokenizer has a token for the unknown, and needs it here."""
        marks = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        # CLIP's byte pairs spell anything; its "unknown" is the end mark, which stands for nothing unknown.
        unknown = self.tokenizer.unk_token_id
        return unknown is None or unknown in marks or unknown not in self._ids(word)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids


def text_encoders_of(pipeline: Pipeline) -> tuple[TextEncoder, ...]:
    """Every text encoder that this pipeline has loaded."""
    found = []
    for suffix in SUFFIXES:
        tokenizer = pipeline.components.get(f"tokenizer{suffix}")
        encoder = pipeline.components.get(f"text_encoder{suffix}")
        if tokenizer is not None and encoder is not None:
            # FLUX.2's reads images as well, and has the one of the words inside.
            tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
            is_clip = type(encoder).__name__.startswith("CLIPText")
            found.append(TextEncoder(tokenizer, is_clip, _window(pipeline, tokenizer, is_clip=is_clip)))
    return tuple(found)


def tokens_as_read(pipeline: Any, text: str) -> int:  # Any: a pipeline's own tokenizer and template
    """How many tokens the only language model of a pipeline reads of a prompt, with the conversation that it is put in.

    What is cut off at the end is counted, too.
    """
    template = getattr(pipeline, "prompt_template_encode", None)
    if template is not None:
        return len(pipeline.tokenizer(template.format(text)).input_ids)
    messages = [{"role": "user", "content": text}]
    # As `ZImagePipeline` asks for it (diffusers 0.42.1).
    said = pipeline.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    return len(pipeline.tokenizer(said).input_ids)


def call_parameters(pipeline: Pipeline) -> dict[str, inspect.Parameter]:
    """The keywords that a pipeline can be called with."""
    return dict(inspect.signature(type(pipeline).__call__).parameters)


def _window(pipeline: Pipeline, tokenizer: Any, *, is_clip: bool) -> int:  # Any: see TextEncoder
    window = int(tokenizer.model_max_length)
    # The other encoders are T5 and language models: there the pipeline chooses the window.
    chosen = call_parameters(pipeline).get("max_sequence_length")
    if not is_clip and chosen is not None and isinstance(chosen.default, int):
        window = chosen.default
    return max(1, window - int(tokenizer.num_special_tokens_to_add()))
