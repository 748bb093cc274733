"""Captions: what they say, which are held out, and that the tokenizer knows every word."""

import numpy as np
import pytest
from data import encode_words, make_batch, vary
from grammar import Caption, Group, Mix, sample
from hypothesis import given
from hypothesis import strategies as st
from model import UNKNOWN, build_tokenizer, vocabulary

MAX_TOKENS = 20
SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
def test_every_caption_is_made_of_known_words_and_fits(seed: int) -> None:
    words = sample(np.random.default_rng(seed), Mix()).text().split()
    assert set(words) <= set(vocabulary())
    assert len(words) <= MAX_TOKENS - 2


@given(SEEDS)
def test_training_never_sees_a_held_out_caption(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert not sample(rng, Mix(scene=0)).held_out()
    assert sample(rng, Mix(scene=0), held_out=True).held_out()


def test_about_a_tenth_is_held_out() -> None:
    shapes = ("circle", "star", "heart", "ring")
    captions = [Caption((Group(s, "red", None, None),), background=f"b{n}") for s in shapes for n in range(500)]
    assert 0.07 < sum(caption.held_out() for caption in captions) / len(captions) < 0.13


@given(SEEDS)
def test_training_encodes_words_as_the_tokenizer_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    text = vary(sample(rng, Mix()).text(), rng)
    asked = build_tokenizer(MAX_TOKENS)(text, padding="max_length", truncation=True, max_length=MAX_TOKENS)
    assert encode_words(text, MAX_TOKENS) == asked.input_ids


@pytest.mark.parametrize("typed", ["A Red CIRCLE, above: a blue square.", "a red circle above a blue square"])
def test_case_and_punctuation_change_nothing(typed: str) -> None:
    tokenizer = build_tokenizer(MAX_TOKENS)
    assert tokenizer(typed).input_ids == tokenizer("a red circle above a blue square").input_ids


def test_an_unknown_word_is_one_unknown_token() -> None:
    ids = build_tokenizer(MAX_TOKENS)("a red dragon").input_ids
    assert ids.count(vocabulary()[UNKNOWN]) == 1


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    first, same, other = (make_batch(1, step, 4, MAX_TOKENS, 0.0, Mix()) for step in (7, 7, 8))
    assert (first.tokens == same.tokens).all()
    assert (first.pixels == same.pixels).all()
    assert (first.pixels != other.pixels).any()
