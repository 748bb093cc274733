"""Reads a picture back into values: which background, which things, of which shape, colour, size and place."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from draw import Picture, draw
from layout import SIDE_PX, Layout, Mark
from words import COLOURS, SHAPES

Mask = npt.NDArray[np.bool_]
#: Distance in RGB levels from the background that makes a pixel part of a thing; half that of the nearest colours.
APART_LEVELS = 45.0
#: Smaller patches are specks. A small ring, the thing with the least area, has about 100 pixels.
SPECK_PX = 25
#: Outlines are compared in boxes of this many cells a side.
CELLS = 24


@dataclass(frozen=True, slots=True)
class Thing:
    """One connected patch that is not background: its centre and its radius as `layout.py` means them."""

    shape: str
    likeness: float
    colour: str
    x: float
    y: float
    radius_px: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What is in a picture."""

    background: str
    things: tuple[Thing, ...]


def read(picture: Picture) -> Reading:
    """Background from the border, things from what differs from it."""
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    ground = np.median(border, axis=0)
    apart = np.linalg.norm(picture.astype(np.float32) - ground, axis=-1) > APART_LEVELS
    patches = [patch for patch in connected(apart) if patch.sum() >= SPECK_PX]
    return Reading(nearest_colour(ground), tuple(_thing(picture, patch) for patch in patches))


def nearest_colour(rgb: npt.NDArray[np.float64]) -> str:
    """The name of the nearest colour.

    >>> nearest_colour(np.array([200.0, 50.0, 50.0]))
    'red'
    """
    return min(COLOURS, key=lambda name: float(np.linalg.norm(rgb - np.asarray(COLOURS[name]))))


def connected(mask: Mask) -> list[Mask]:
    """The 4-connected parts of a mask, by growing each from its first pixel."""
    left, parts = mask.copy(), []
    while left.any():
        part = np.zeros_like(left)
        part.flat[int(np.argmax(left))] = True
        while True:
            grown = _grow(part) & left
            if (grown == part).all():
                break
            part = grown
        parts.append(part)
        left &= ~part
    return parts


def _grow(mask: Mask) -> Mask:
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _thing(picture: Picture, patch: Mask) -> Thing:
    shape, likeness = name_outline(patch)
    radius_px = _half_px(patch) / _EXTENTS[shape]
    rows, columns = np.nonzero(patch)
    return Thing(
        shape=shape,
        likeness=likeness,
        colour=nearest_colour(np.median(picture[patch], axis=0)),
        x=float(columns.mean()) + 0.5,
        y=float(rows.mean()) + 0.5 - _SINKS[shape] * radius_px,
        radius_px=radius_px,
    )


def name_outline(patch: Mask) -> tuple[str, float]:
    """The shape whose outline, scaled to the same box, shares most of its area; and that share, 0 to 1."""
    cells = _boxed(patch)
    scores = {shape: float((cells & t).sum() / (cells | t).sum()) for shape, t in _TEMPLATES.items()}
    best = max(scores, key=lambda shape: scores[shape])
    return best, scores[best]


def _boxed(patch: Mask) -> Mask:
    rows, columns = np.nonzero(patch)
    box = patch[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    pick = [((np.arange(CELLS) + 0.5) * side / CELLS).astype(int) for side in box.shape]
    cells: Mask = box[np.ix_(*pick)]
    return cells


def _half_px(patch: Mask) -> float:
    rows, columns = np.nonzero(patch)
    return float(max(np.ptp(rows), np.ptp(columns)) + 1) / 2


def _ideal(shape: str) -> Mask:
    mark = Mark(shape, (255, 255, 255), SIDE_PX / 2, SIDE_PX / 2, _IDEAL_PX, _IDEAL_PX)
    return draw(Layout((0, 0, 0), (mark,)))[..., 0] > 127


_IDEAL_PX = 24
_TEMPLATES = {shape: _boxed(_ideal(shape)) for shape in SHAPES}
#: Half the longer side of each shape's box, in units of its radius.
_EXTENTS = {shape: _half_px(_ideal(shape)) / _IDEAL_PX for shape in SHAPES}
#: How far below its centre the mass of each shape lies, in units of its radius: a heart's lies above.
_SINKS = {shape: (float(np.nonzero(_ideal(shape))[0].mean()) + 0.5 - SIDE_PX / 2) / _IDEAL_PX for shape in SHAPES}
