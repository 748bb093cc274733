"""The judge finds every attribute in the true picture, and finds it gone when the picture is another one's."""

from dataclasses import replace

import numpy as np
import pytest
from draw import draw
from grammar import Caption, Group, Mix, sample
from hypothesis import given
from hypothesis import strategies as st
from judge import judge
from layout import Layout, Mark, arrange
from readback import read
from words import COLOURS, PLACES, RELATIONS, SHAPES

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
def test_the_drawing_of_a_caption_has_all_its_attributes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    caption = sample(rng, Mix(scene=0.4))
    wrong = [v for v in judge(caption, draw(arrange(caption, rng))) if not v.right]
    assert not wrong, caption.text()


@given(SEEDS, st.sampled_from(SHAPES), st.sampled_from(SHAPES))
def test_another_shape_is_noticed(seed: int, drawn: str, asked: str) -> None:
    one = Caption((Group(drawn, "red"),), background="white")
    picture = draw(arrange(one, np.random.default_rng(seed)))
    verdicts = judge(replace(one, groups=(Group(asked, "red"),)), picture)
    assert {v.right for v in verdicts if v.attribute == "shape"} == {drawn == asked}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_is_true_of_one_place_only(place: str) -> None:
    picture = draw(arrange(Caption((Group("star", "red", "large", place),)), np.random.default_rng(3)))
    right = [
        other
        for other in PLACES
        if all(v.right for v in judge(Caption((Group("star", "red", "large", other),)), picture))
    ]
    assert right == [place]


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_swapped_pair_is_noticed(relation: str) -> None:
    first, second = Group("ring", "red"), Group("cross", "blue")
    picture = draw(arrange(Caption((first, second), relation, "white"), np.random.default_rng(4)))
    verdicts = judge(Caption((second, first), relation, "white"), picture)
    assert [v.attribute for v in verdicts if not v.right] == ["relation"]


@pytest.mark.parametrize(("said", "drawn"), [("red", "orange"), ("blue", "purple"), ("cyan", "blue"), ("pink", "red")])
def test_another_colour_is_noticed(said: str, drawn: str) -> None:
    picture = draw(arrange(Caption((Group("heart", drawn),), background="black"), np.random.default_rng(5)))
    verdicts = judge(Caption((Group("heart", said),), background="black"), picture)
    assert [v.attribute for v in verdicts if not v.right] == ["colour"]


def test_noise_and_emptiness_satisfy_nobody() -> None:
    caption = Caption((Group("circle", "red", "large", "on the left"),), background="white")
    noise = np.random.default_rng(6).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    empty = draw(Layout(COLOURS["green"], ()))
    assert not any(v.right for v in judge(caption, noise) if v.attribute == "shape")
    assert not any(v.right for v in judge(caption, empty))


@given(st.sampled_from(SHAPES), st.floats(9, 24), st.floats(-3, 3), st.floats(-3, 3))
def test_outline_place_and_radius_are_read_back(shape: str, radius: float, dx: float, dy: float) -> None:
    mark = Mark(shape, COLOURS["blue"], 32 + dx, 32 + dy, radius, radius)
    (thing,) = read(draw(Layout(COLOURS["white"], (mark,)))).things
    assert thing.shape == shape
    assert thing.colour == "blue"
    assert abs(thing.radius_px - radius) < 2  # of a star up to 1.7: its points are thinner than a pixel
    assert max(abs(thing.x - mark.x), abs(thing.y - mark.y)) < 1.2
