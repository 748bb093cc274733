"""What becomes of the words of a prompt: long ones are read to their end, and what is not read is told.

A text encoder has a window (CLIP's is 77 tokens) and diffusers cuts what is beyond it. Where every encoder is
CLIP's, a longer prompt is encoded piece by piece and the pieces are laid end to end, which is what cross-attention
takes as well. Import this only in the child.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch

from dreamforge.contracts.events import WarningCode
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.renderer import Remark

#: Words, with an apostrophe inside, and every other sign alone: an emoji can be unknown too.
PIECES = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
#: How diffusers numbers the encoders of one pipeline.
SUFFIXES = ("", "_2", "_3", "_4")
#: Our keyword for each tensor that `encode_prompt` gives, in its order; SDXL's gives all four.
EMBEDDINGS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
#: Of the tensors above, those with a row a token: (batch, tokens, width). The pooled ones are (batch, width).
BY_TOKEN = frozenset(EMBEDDINGS[:2])


@dataclass(frozen=True, slots=True)
class Reader:
    """One text encoder of a pipeline with its tokenizer; `room` is how many tokens of a prompt it reads."""

    # Any: transformers' tokenizers have no common type.
    tokenizer: Any
    is_clip: bool
    room: int

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


def readers_of(pipeline: Pipeline) -> tuple[Reader, ...]:
    """Every text encoder that this pipeline has loaded."""
    found = []
    for suffix in SUFFIXES:
        tokenizer = pipeline.components.get(f"tokenizer{suffix}")
        encoder = pipeline.components.get(f"text_encoder{suffix}")
        if tokenizer is not None and encoder is not None:
            is_clip = type(encoder).__name__.startswith("CLIPText")
            found.append(Reader(tokenizer, is_clip, _room(pipeline, tokenizer, is_clip=is_clip)))
    return tuple(found)


def _room(pipeline: Pipeline, tokenizer: Any, *, is_clip: bool) -> int:  # Any: see Reader
    window = int(tokenizer.model_max_length)
    # The other encoders are T5 and language models: there the pipeline chooses the window.
    chosen = _parameters(pipeline).get("max_sequence_length")
    if not is_clip and chosen is not None and isinstance(chosen.default, int):
        window = chosen.default
    return max(1, window - int(tokenizer.num_special_tokens_to_add()))


def reads_all(pipeline: Pipeline, readers: tuple[Reader, ...]) -> bool:
    """Whether a long prompt can be read piece by piece: every encoder is CLIP's, and embeddings can be given."""
    takes = _parameters(pipeline)
    return bool(readers) and all(reader.is_clip for reader in readers) and takes.keys() >= BY_TOKEN


def prompt_arguments(pipeline: Pipeline, task: RenderTask) -> dict[str, Any]:  # Any: text or tensors
    """The keywords that carry the prompts: as text where they fit, so that nothing changes; else as embeddings."""
    readers = readers_of(pipeline)
    pieces = list(split(task.prompt, readers))
    negative_pieces = list(split(task.negative_prompt, readers))
    if max(len(pieces), len(negative_pieces)) > 1 and reads_all(pipeline, readers):
        return _embeddings(pipeline, pieces, negative_pieces)
    negative = {"negative_prompt": task.negative_prompt} if task.negative_prompt else {}
    return {"prompt": task.prompt} | negative


def _embeddings(pipeline: Any, pieces: list[str], negative_pieces: list[str]) -> dict[str, Any]:  # Any: its own tensors
    """Both prompts, each piece encoded alone by the pipeline's own method, the shorter one filled up with nothing."""
    encoded = [
        pipeline.encode_prompt(
            prompt=piece,
            device=pipeline._execution_device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            # None is not the empty text: for it some pipelines take zeros.
            negative_prompt=negative if negative_pieces else None,
        )
        for piece, negative in zip_longest(pieces, negative_pieces, fillvalue="")
    ]
    return {
        # What stands for the whole prompt comes from its beginning, as it does where a prompt is cut.
        name: torch.cat(tensors, dim=1) if name in BY_TOKEN else tensors[0]
        for name, tensors in zip(EMBEDDINGS, zip(*encoded, strict=True), strict=False)
    }


def remarks_on(pipeline: Pipeline, task: RenderTask) -> tuple[Remark, ...]:
    """What the owner of these prompts should know before the first picture."""
    readers = readers_of(pipeline)
    texts = (task.prompt, task.negative_prompt)
    unknown = tuple(dict.fromkeys(word for text in texts for word in unknown_words(text, readers)))
    cut = () if reads_all(pipeline, readers) else tuple(word for text in texts for word in cut_words(text, readers))
    remarks = []
    if unknown:
        remarks.append(Remark(WarningCode.UNKNOWN_WORDS, f"the model does not know: {', '.join(unknown)}", unknown))
    if cut:
        remarks.append(Remark(WarningCode.PROMPT_CUT, f"too long for the model, not read: {' '.join(cut)}", cut))
    return tuple(remarks)


def unknown_words(text: str, readers: tuple[Reader, ...]) -> tuple[str, ...]:
    """The words that some encoder has no token for, each once, as they were written."""
    words: dict[str, str] = {}
    for word in PIECES.findall(text):
        words.setdefault(word.casefold(), word)
    return tuple(word for word in words.values() if not all(reader.knows(word) for reader in readers))


def cut_words(text: str, readers: tuple[Reader, ...]) -> tuple[str, ...]:
    """The words at the end of a text that no encoder reads whole: those beyond the one that reads furthest."""
    rests = [_beyond(text, reader) for reader in readers]
    return min(rests, key=len, default=())


def _beyond(text: str, reader: Reader) -> tuple[str, ...]:
    words, left = text.split(), reader.room
    for number, word in enumerate(words):
        left -= reader.count(word)
        if left < 0:
            return tuple(words[number:])
    return ()


def split(text: str, readers: tuple[Reader, ...]) -> Iterator[str]:
    """Pieces of a text that every encoder reads whole, cut between words; a text that fits is one piece, as it is.

    A word longer than a window (a language without spaces) is cut inside.
    """
    room = min((reader.room for reader in readers), default=0)
    if not readers or _longest(text, readers) <= room:
        yield from (text,) if text else ()
        return
    piece: list[str] = []
    used = 0
    for word in _short_words(text, readers, room):
        count = _longest(word, readers)
        if piece and used + count > room:
            yield " ".join(piece)
            piece, used = [], 0
        piece.append(word)
        used += count
    yield " ".join(piece)


def _short_words(text: str, readers: tuple[Reader, ...], room: int) -> Iterator[str]:
    for word in text.split():
        if len(word) == 1 or _longest(word, readers) <= room:
            yield word
        else:
            half = len(word) // 2
            yield from _short_words(f"{word[:half]} {word[half:]}", readers, room)


def _longest(text: str, readers: tuple[Reader, ...]) -> int:
    return max(reader.count(text) for reader in readers)


def _parameters(pipeline: Pipeline) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(type(pipeline).__call__).parameters)
