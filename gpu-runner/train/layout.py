"""From a caption to coloured marks on a canvas: everything a caption leaves open is decided here, by chance."""

from dataclasses import dataclass

import numpy as np
from grammar import Caption, Group
from words import BROWN, COLOURS, GREY, NAVY, PLACES, RELATIONS, SKIES, Rgb

SIDE_PX = 64
MIDDLE = SIDE_PX / 2
#: Radii in pixels by size word, alone and beside others. No word means medium. The ranges are narrow, and so is
#: `WOBBLE_PX`: what is left to chance blurs what can be learned from a few hundred thousand pictures.
ALONE_PX = {"small": (9.0, 9.6), None: (14.0, 14.7), "large": (21.0, 22.0)}
AMONG_PX = {"small": (7.8, 8.2), None: (10.6, 11.1), "large": (13.0, 13.4)}
WOBBLE_PX = 0.6
#: Half the distance between neighbours; two large ones just do not touch.
STEP_PX = 15.0
#: Offsets, in steps, of two, three and four of a kind.
FORMATIONS = {2: ((-1, 0), (1, 0)), 3: ((0, -1), (-1, 1), (1, 1)), 4: ((-1, -1), (1, -1), (-1, 1), (1, 1))}


@dataclass(frozen=True, slots=True)
class Mark:
    """One filled outline: kind, colour, centre and half extents in pixels."""

    kind: str
    rgb: Rgb
    x: float
    y: float
    half_w: float
    half_h: float


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture as values: a ground colour and marks from back to front."""

    ground: Rgb
    marks: tuple[Mark, ...]


def arrange(caption: Caption, rng: np.random.Generator) -> Layout:
    """A layout in which everything the caption says is true."""
    if caption.scene:
        return _SCENES[caption.scene](caption, rng)
    said = {group.colour for group in caption.groups}
    ground = caption.background or _colour_besides(said, rng)
    marks: list[Mark] = []
    for group, spots in zip(caption.groups, _spots(caption, rng), strict=True):
        rgb = COLOURS[group.colour or _colour_besides({ground}, rng)]
        marks += [Mark(group.shape, rgb, x, y, radius, radius) for x, y, radius in spots]
    return Layout(COLOURS[ground], tuple(marks))


def _spots(caption: Caption, rng: np.random.Generator) -> list[list[tuple[float, float, float]]]:
    if len(caption.groups) == 2:
        dx, dy = RELATIONS[caption.relation or "and"]
        return [[_spot(g, s * dx, s * dy, rng)] for g, s in zip(caption.groups, (-1, 1), strict=True)]
    (group,) = caption.groups
    if group.count == 1:
        return [[_alone(group, rng)]]
    radius = rng.uniform(*AMONG_PX[group.size])
    return [[(*_near(dx, dy, rng), radius) for dx, dy in FORMATIONS[group.count]]]


def _spot(group: Group, dx: int, dy: int, rng: np.random.Generator) -> tuple[float, float, float]:
    return (*_near(dx, dy, rng), rng.uniform(*AMONG_PX[group.size]))


def _near(dx: float, dy: float, rng: np.random.Generator) -> tuple[float, float]:
    wobble_x, wobble_y = rng.uniform(-WOBBLE_PX, WOBBLE_PX, size=2)
    return MIDDLE + dx * STEP_PX + wobble_x, MIDDLE + dy * STEP_PX + wobble_y


def _alone(group: Group, rng: np.random.Generator) -> tuple[float, float, float]:
    radius = rng.uniform(*ALONE_PX[group.size])
    column, row = PLACES[group.place or "in the middle"]
    # A place word moves the thing until about 3 pixels are left to the edge.
    reach = MIDDLE - radius - 3 + rng.uniform(-WOBBLE_PX, WOBBLE_PX, size=2)
    wobble = rng.uniform(-WOBBLE_PX, WOBBLE_PX, size=2)
    x, y = (MIDDLE + (s * r if s else w) for s, r, w in zip((column, row), reach, wobble, strict=True))
    return float(x), float(y), radius


def _colour_besides(taken: set[str | None], rng: np.random.Generator) -> str:
    free = [name for name in COLOURS if name not in taken]
    return free[int(rng.integers(len(free)))]


def _sea(caption: Caption, rng: np.random.Generator) -> Layout:
    sun = Mark("circle", COLOURS["yellow"], rng.uniform(20, 44), rng.uniform(15, 20), 9, 9)
    return Layout(SKIES[caption.sky], (sun, _band(rng.uniform(35, 39), COLOURS["blue"])))


def _mountains(caption: Caption, rng: np.random.Generator) -> Layout:
    marks: list[Mark] = []
    for x in (16 + rng.uniform(-3, 3), 45 + rng.uniform(-3, 3)):
        height = rng.uniform(15, 19)
        marks.append(Mark("peak", GREY, x, 52 - height, 24, height))
        marks.append(Mark("peak", COLOURS["white"], x, 52 - 1.7 * height, 24 * 0.3, height * 0.3))
    return Layout(SKIES[caption.sky], (*marks, _band(51, COLOURS["green"])))


def _stars(_: Caption, rng: np.random.Generator) -> Layout:
    x, y = rng.uniform(40, 48), rng.uniform(14, 20)
    moon = (Mark("circle", COLOURS["yellow"], x, y, 10, 10), Mark("circle", NAVY, x - 5, y - 3, 9, 9))
    spots = ((10, 12), (24, 24), (12, 40), (30, 50), (50, 44))
    stars = [
        Mark("star", COLOURS["white"], sx + rng.uniform(-3, 3), sy + rng.uniform(-3, 3), 4.5, 4.5) for sx, sy in spots
    ]
    return Layout(NAVY, (*moon, *stars))


def _house(caption: Caption, rng: np.random.Generator) -> Layout:
    wall = COLOURS[caption.house_colour or _colour_besides({"green", "blue"}, rng)]
    x = 21 + rng.uniform(-3, 3)
    tree = 49 + rng.uniform(-2, 2)
    return Layout(
        SKIES[caption.sky],
        (
            _band(50, COLOURS["green"]),
            Mark("rect", wall, x, 42, 12, 11),
            Mark("peak", BROWN, x, 24, 15, 8),
            Mark("rect", BROWN, x, 48, 3, 5),
            Mark("rect", BROWN, tree, 46, 2.5, 8),
            Mark("circle", COLOURS["green"], tree, 30, 10, 11),
        ),
    )


def _band(top: float, rgb: Rgb) -> Mark:
    half = (SIDE_PX + 4 - top) / 2
    return Mark("rect", rgb, MIDDLE, top + half, MIDDLE + 4, half)


_SCENES = {"sea": _sea, "mountains": _mountains, "stars": _stars, "house": _house}
