"""Endless training batches: captions and their pictures, made while training, the same for the same seed and step."""

from dataclasses import dataclass

import numpy as np
import torch
from draw import draw
from grammar import SHAPES_FIRST, Mix, sample
from layout import arrange
from model import BEGIN, END, UNKNOWN, vocabulary
from patches import to_pixels

#: Shares of captions that are emptied (classifier-free guidance), lose their articles, or gain an unknown word.
EMPTY, BARE, STRANGE = 0.1, 0.15, 0.06


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids (B, T) and pixels (B, 3, 64, 64) in -1..1."""

    tokens: torch.Tensor
    pixels: torch.Tensor


def make_batch(seed: int, step: int, size: int, max_tokens: int, shapes_first: float, mix: Mix) -> Batch:
    """The batch of one step; `shapes_first` is the share of it that the curriculum takes from its first mix."""
    rng = np.random.default_rng((seed, step))
    mixes = [SHAPES_FIRST if rng.random() < shapes_first else mix for _ in range(size)]
    captions = [sample(rng, chosen) for chosen in mixes]
    pictures = np.stack([draw(arrange(caption, rng)) for caption in captions])
    tokens = [encode_words(vary(caption.text(), rng), max_tokens) for caption in captions]
    return Batch(torch.tensor(tokens), to_pixels(pictures))


def vary(text: str, rng: np.random.Generator) -> str:
    """The caption as people might type it: at times nothing, without articles, or with a word we do not know."""
    chance = rng.random()
    if chance < EMPTY:
        return ""
    words = text.split()
    if chance < EMPTY + BARE:
        words = [word for word in words if word not in ("a", "an", "the")]
    elif chance < EMPTY + BARE + STRANGE:
        words.insert(int(rng.integers(len(words) + 1)), UNKNOWN)
    return " ".join(words)


def encode_words(text: str, max_tokens: int) -> list[int]:
    """What the tokenizer of the model makes of a caption, without its cost; a test holds them equal."""
    ids = [_WORDS.get(word, _WORDS[UNKNOWN]) for word in text.split()][: max_tokens - 2]
    return [_WORDS[BEGIN], *ids, *[_WORDS[END]] * (max_tokens - 1 - len(ids))]


_WORDS = vocabulary()
