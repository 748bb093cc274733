"""Paints a layout: each mark is a signed distance, so edges are antialiased and a picture costs a millisecond."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from layout import SIDE_PX, Layout, Mark

# Any: numpy's functions are typed for arrays of some number, and every field here is float32.
Field = npt.NDArray[Any]
Picture = npt.NDArray[np.uint8]


def draw(layout: Layout) -> Picture:
    """The picture of a layout. Shape (64, 64, 3), uint8, rows from the top."""
    canvas = np.empty((SIDE_PX, SIDE_PX, 3), np.float32)
    canvas[:] = layout.ground
    for mark in layout.marks:
        _paint(canvas, mark)
    return (canvas + 0.5).astype(np.uint8)


def _paint(canvas: Field, mark: Mark) -> None:
    reach_x, reach_y = mark.half_w * 1.3 + 2, mark.half_h * 1.3 + 2
    left, right = max(0, int(mark.x - reach_x)), min(SIDE_PX, int(mark.x + reach_x) + 1)
    top, bottom = max(0, int(mark.y - reach_y)), min(SIDE_PX, int(mark.y + reach_y) + 1)
    x = (np.arange(left, right, dtype=np.float32) + 0.5 - mark.x)[None, :] / mark.half_w
    y = (np.arange(top, bottom, dtype=np.float32) + 0.5 - mark.y)[:, None] / mark.half_h
    distance_px = OUTLINES[mark.kind](x, y) * min(mark.half_w, mark.half_h)
    cover = np.clip(0.5 - distance_px, 0, 1)[..., None]
    patch = canvas[top:bottom, left:right]
    patch += cover * (np.asarray(mark.rgb, np.float32) - patch)


def _circle(x: Field, y: Field) -> Field:
    return np.asarray(np.hypot(x, y) - 1)


def _ring(x: Field, y: Field) -> Field:
    return np.abs(np.hypot(x, y) - 0.75) - 0.25


def _rect(x: Field, y: Field) -> Field:
    return np.asarray(np.maximum(np.abs(x), np.abs(y)) - 1)


def _square(x: Field, y: Field) -> Field:
    # 0.88 gives it about the area of the circle.
    return np.maximum(np.abs(x), np.abs(y)) - 0.88


def _diamond(x: Field, y: Field) -> Field:
    return (np.abs(x) + np.abs(y) - 1.1) / math.sqrt(2)


def _cross(x: Field, y: Field) -> Field:
    x, y = np.abs(x), np.abs(y)
    return np.asarray(np.minimum(np.maximum(x - 1, y - 0.33), np.maximum(y - 1, x - 0.33)))


def _triangle(x: Field, y: Field) -> Field:
    # Equilateral, point up, a little larger than the circle it would be inscribed in.
    side = (np.abs(x) * math.sqrt(3) - (y + 1.1)) / 2
    return np.maximum(side, y - 0.65)


def _peak(x: Field, y: Field) -> Field:
    # Fills its box: apex at the middle of the top, base along the bottom.
    side = (2 * np.abs(x) - (y + 1)) / math.sqrt(5)
    return np.asarray(np.maximum(side, y - 1))


def _star(x: Field, y: Field) -> Field:
    # Five points by folding the angle into a tenth of a turn; inner radius 0.45 of the outer.
    outer, inner, fold = 1.12, 0.45, math.pi / 5
    radius = np.hypot(x, y)
    angle = np.abs((np.arctan2(x, -y) + fold) % (2 * fold) - fold)
    px, py = radius * np.cos(angle), radius * np.sin(angle)
    ix, iy = inner * math.cos(fold), inner * math.sin(fold)
    length = math.hypot(iy, outer - ix)
    return ((px - outer) * iy + py * (outer - ix)) / length


def _heart(x: Field, y: Field) -> Field:
    # A square on its corner and a circle on each of its upper sides.
    half = 0.85
    y = y - 0.1
    square = (np.abs(x) + np.abs(y) - half) / math.sqrt(2)
    lobe = np.hypot(np.abs(x) - half / 2, y + half / 2) - half / math.sqrt(2)
    return np.minimum(square, lobe)


#: Signed distance in units of the half extent, negative inside, by kind of mark.
OUTLINES: dict[str, Callable[[Field, Field], Field]] = {
    "circle": _circle,
    "ring": _ring,
    "rect": _rect,
    "square": _square,
    "diamond": _diamond,
    "cross": _cross,
    "triangle": _triangle,
    "peak": _peak,
    "star": _star,
    "heart": _heart,
}
