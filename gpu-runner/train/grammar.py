"""Captions: what is said of a picture, sampled from a grammar; `layout.py` decides where things come to lie.

A caption states some attributes and leaves others open. The stated ones are what the evaluation asks for.
"""

import hashlib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from words import COLOURS, NUMBERS, PLACES, PLURALS, RELATIONS, SCENES, SHAPES, SIZES, SKIES

#: One caption in so many is never trained on; the evaluation asks for those.
HELD_OUT_ONE_IN = 10
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group:
    """One kind of thing, `count` times. None means: the caption does not say."""

    shape: str
    colour: str | None = None
    size: str | None = None
    place: str | None = None
    count: int = 1

    def text(self) -> str:
        """The words, for example `a small red star on the left` or `two blue rings`."""
        noun = PLURALS[self.shape] if self.count > 1 else self.shape
        said = " ".join(word for word in (self.size, self.colour, noun, self.place) if word)
        return f"{NUMBERS[self.count]} {said}" if self.count > 1 else with_article(said)


@dataclass(frozen=True, slots=True)
class Caption:
    """A picture in words: one group, two groups and their relation, or a scene."""

    groups: tuple[Group, ...] = ()
    relation: str | None = None
    background: str | None = None
    scene: str | None = None
    sky: str = ""
    house_colour: str | None = None

    def text(self) -> str:
        """The canonical sentence. Two captions are the same exactly if these are.

        >>> Caption(groups=(Group("star", "red", "small", "on the left"),), background="blue").text()
        'a small red star on the left on a blue background'
        """
        if self.scene:
            return " ".join(word for word in (_scene_words(self), self.sky) if word)
        said = f" {self.relation} ".join(group.text() for group in self.groups)
        return f"{said} on {with_article(self.background)} background" if self.background else said

    def held_out(self) -> bool:
        """Whether this caption is kept from training, by its text alone."""
        return hashlib.sha256(self.text().encode()).digest()[0] * HELD_OUT_ONE_IN < 256


def with_article(phrase: str) -> str:
    """`a` or `an` before the phrase, by its first letter.

    >>> with_article("orange ring")
    'an orange ring'
    """
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _scene_words(caption: Caption) -> str:
    house = with_article(f"{caption.house_colour} house" if caption.house_colour else "house") + " and a tree"
    words = {"sea": "the sun over the sea", "mountains": "mountains", "stars": "the moon and stars", "house": house}
    return words[caption.scene or ""]


@dataclass(frozen=True, slots=True)
class Mix:
    """How often each kind of caption comes; the curriculum moves from one mix to the next."""

    one: float = 0.5
    several: float = 0.15
    pair: float = 0.2
    scene: float = 0.15
    #: Share of objects whose size or place is said.
    sized: float = 0.4
    placed: float = 0.5
    #: Share of captions that leave colour or background open.
    open: float = 0.25


#: Begins with what was slowest to learn: one thing in the middle, and the word that names its outline.
SHAPES_FIRST = Mix(one=1.0, several=0.0, pair=0.0, scene=0.0, sized=0.0, placed=0.0, open=0.0)


def sample(rng: np.random.Generator, mix: Mix, *, held_out: bool = False) -> Caption:
    """A caption of the wanted kind, from the training side or the held-out side of the grammar."""
    kinds = (_one, _several, _pair, _scene)
    weights = np.array([mix.one, mix.several, mix.pair, mix.scene])
    while True:
        caption = kinds[rng.choice(4, p=weights / weights.sum())](rng, mix)
        if caption.scene or caption.held_out() == held_out:
            return caption


def _one(rng: np.random.Generator, mix: Mix) -> Caption:
    colour, background = _two_colours(rng)
    size = _maybe(rng, mix.sized, SIZES)
    place = _maybe(rng, mix.placed, tuple(PLACES))
    group = Group(_pick(rng, SHAPES), _unless(rng, mix.open, colour), size, place)
    return Caption(groups=(group,), background=_unless(rng, mix.open, background))


def _several(rng: np.random.Generator, mix: Mix) -> Caption:
    colour, background = _two_colours(rng)
    group = Group(_pick(rng, SHAPES), _unless(rng, mix.open, colour), count=_pick(rng, tuple(NUMBERS)))
    return Caption(groups=(group,), background=_unless(rng, mix.open, background))


def _pair(rng: np.random.Generator, mix: Mix) -> Caption:
    first, second, background = (str(c) for c in rng.choice(tuple(COLOURS), size=3, replace=False))
    groups = tuple(Group(_pick(rng, SHAPES), colour, _maybe(rng, mix.sized / 2, SIZES)) for colour in (first, second))
    return Caption(groups, _pick(rng, tuple(RELATIONS)), _unless(rng, mix.open, background))


def _scene(rng: np.random.Generator, _: Mix) -> Caption:
    scene = _pick(rng, SCENES)
    sky = "" if scene == "stars" else _pick(rng, tuple(SKIES))
    house = _maybe(rng, 0.7, tuple(COLOURS)) if scene == "house" else None
    return Caption(scene=scene, sky=sky, house_colour=house)


def _pick(rng: np.random.Generator, options: tuple[T, ...]) -> T:
    return options[int(rng.integers(len(options)))]


def _maybe(rng: np.random.Generator, share: float, options: tuple[str, ...]) -> str | None:
    return _pick(rng, options) if rng.random() < share else None


def _unless(rng: np.random.Generator, share: float, value: str) -> str | None:
    return None if rng.random() < share else value


def _two_colours(rng: np.random.Generator) -> tuple[str, str]:
    first, second = rng.choice(tuple(COLOURS), size=2, replace=False)
    return str(first), str(second)
