"""Where a prompt is cut, and what is said of it: with a tokenizer of one token a letter."""

from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch", reason="the child's modules need torch")

from dreamforge.gpu_runner.rendering.features.prompts import cut_words, split, unknown_words  # noqa: E402
from dreamforge.gpu_runner.rendering.text_encoders import TextEncoder  # noqa: E402


class Letters:
    """A token a letter, no token for spaces, and none for Q."""

    unk_token_id, bos_token_id, eos_token_id, pad_token_id = 0, 1, 2, 2

    def __call__(self, text: str, **_options: object) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[0 if letter == "Q" else ord(letter) for letter in text if letter != " "])


def encoder(window: int) -> TextEncoder:
    return TextEncoder(Letters(), is_clip=True, window=window)


def test_a_text_that_fits_stays_as_it_is_and_no_text_is_no_piece() -> None:
    assert list(split("  two  words ", (encoder(8),))) == ["  two  words "]
    assert list(split("", (encoder(8),))) == []


def test_pieces_end_between_words_and_nothing_is_lost() -> None:
    text = "a red fox under a paper moon"
    pieces = list(split(text, (encoder(7), encoder(9))))
    assert " ".join(pieces) == text
    assert all(encoder(7).count(piece) <= 7 for piece in pieces)
    assert len(pieces) == 4


def test_a_word_longer_than_the_window_is_cut_inside() -> None:
    pieces = list(split("abcdefghij", (encoder(4),)))
    assert "".join(pieces).replace(" ", "") == "abcdefghij"
    assert all(encoder(4).count(piece) <= 4 for piece in pieces)


def test_the_words_that_are_cut_are_those_beyond_the_encoder_that_reads_furthest() -> None:
    assert cut_words("one two three", (encoder(3), encoder(7))) == ("three",)
    assert cut_words("one two three", (encoder(3), encoder(11))) == ()


def test_unknown_words_come_once_each_as_they_were_written() -> None:
    assert unknown_words("Quick fox, quick; QUICK!", (encoder(50),)) == ("Quick",)


def test_an_end_mark_that_doubles_as_the_unknown_stands_for_nothing_unknown() -> None:
    letters = Letters()
    letters.unk_token_id = letters.eos_token_id = 0
    assert unknown_words("Quick", (TextEncoder(letters, is_clip=True, window=9),)) == ()
