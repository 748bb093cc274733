"""Edges of an image, one pixel wide, by Canny's method (IEEE PAMI-8, 1986, pages 679-698). Pure."""

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Indexes = NDArray[np.int64]
#: Sine of 22.5 degrees over its cosine: what is flatter is horizontal, what is steeper than its inverse is vertical.
_FLAT = np.float32(np.tan(np.pi / 8))


def edges(grey: Plane, low: float, high: float) -> Mask:
    """Where an edge runs: its pixels have a Sobel gradient of at least `low`, and each line one of at least `high`.

    `grey` is (height, width), smoothed before; gradients are lengths (L2) of values as they are, 8 bits up to 1443.
    """
    across, down = _sobel(grey)
    strength = np.hypot(across, down)
    candidates = _is_ridge(strength, across, down) & (strength >= low)
    return _connected_to(candidates, candidates & (strength >= high))


def _sobel(grey: Plane) -> tuple[Plane, Plane]:
    """Gradients to the right and downwards; beyond its border an image repeats."""
    padded = np.pad(grey, 1, mode="edge")
    columns = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    rows = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return columns[:, 2:] - columns[:, :-2], rows[2:] - rows[:-2]


def _is_ridge(strength: Plane, across: Plane, down: Plane) -> Mask:
    """Where no neighbour along the gradient is stronger; of two that are equal, the one before."""
    padded = np.pad(strength, 1)
    flat, steep = np.abs(down) <= _FLAT * np.abs(across), np.abs(across) <= _FLAT * np.abs(down)
    falling = across * down >= 0
    ridge = np.zeros(strength.shape, np.bool_)
    height, width = strength.shape
    for chosen, (right, below) in (
        (flat, (1, 0)),
        (steep & ~flat, (0, 1)),
        (falling & ~flat & ~steep, (1, 1)),
        (~falling & ~flat & ~steep, (-1, 1)),
    ):
        after = padded[1 + below : 1 + below + height, 1 + right : 1 + right + width]
        before = padded[1 - below : 1 - below + height, 1 - right : 1 - right + width]
        ridge |= chosen & (strength > before) & (strength >= after)
    return ridge


def _connected_to(candidates: Mask, seeds: Mask) -> Mask:
    """The candidates from which a seed is reached over candidates, diagonals too.

    Each group of neighbours comes to have one root, the first of its pixels: roots are joined over every pair of
    neighbours, then paths to roots are halved. The rounds grow with the logarithm of a line's length, so that no
    image takes long.
    """
    places: Indexes = np.full(candidates.shape, -1, np.int64)
    places[candidates] = np.arange(np.count_nonzero(candidates))
    one, other = _neighbours(places)
    root: Indexes = np.arange(np.count_nonzero(candidates))
    while (differ := root[one] != root[other]).any():
        one, other = one[differ], other[differ]
        first, last = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
        np.minimum.at(root, last, first)
        while ((shorter := root[root]) != root).any():
            root = shorter
    kept = np.zeros(len(root), np.bool_)
    kept[root[places[seeds]]] = True
    found = np.zeros(candidates.shape, np.bool_)
    found[candidates] = kept[root]
    return found


def _neighbours(places: Indexes) -> tuple[Indexes, Indexes]:
    """Every pair of candidates side by side, once; -1 is no candidate."""
    pairs = (
        (places[:, :-1], places[:, 1:]),
        (places[:-1], places[1:]),
        (places[:-1, :-1], places[1:, 1:]),
        (places[:-1, 1:], places[1:, :-1]),
    )
    both = [(one >= 0) & (other >= 0) for one, other in pairs]
    return (
        np.concatenate([one[chosen] for (one, _), chosen in zip(pairs, both, strict=True)]),
        np.concatenate([other[chosen] for (_, other), chosen in zip(pairs, both, strict=True)]),
    )
