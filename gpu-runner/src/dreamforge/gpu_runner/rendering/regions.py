"""Which part of an image is rendered where only its masked area is, as boxes of whole pixels. Pure.

A box is (left, upper, right, lower), the last two excluded, as Pillow has them; a size is (width, height).
"""

import numpy as np
from numpy.typing import NDArray

from dreamforge.contracts.request.tiles import Box

__all__ = ["Box", "Size"]
Size = tuple[int, int]


def region_around(mask: NDArray[np.uint8], padding_px: int, shape: Size) -> Box:
    """The part of an image that is rendered at a size of this shape: what the mask marks, and what is around it.

    Shapes: mask is (height, width); of an empty one the whole image is the region.
    """
    size = mask.shape[1], mask.shape[0]
    return shaped(padded(marked(mask), padding_px, size), shape, size)


def marked(mask: NDArray[np.uint8]) -> Box:
    """The smallest box around all that is not 0; around everything where nothing is marked.

    >>> marked(np.array([[0, 0, 0], [0, 1, 9]], dtype=np.uint8))
    (1, 1, 3, 2)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, mask.shape[1], mask.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def padded(box: Box, padding_px: int, size: Size) -> Box:
    """A box with so much more on each side, as far as the image goes.

    >>> padded((1, 5, 3, 6), 2, (8, 8))
    (0, 3, 5, 8)
    """
    left, upper, right, lower = box
    return (
        max(0, left - padding_px),
        max(0, upper - padding_px),
        min(size[0], right + padding_px),
        min(size[1], lower + padding_px),
    )


def shaped(box: Box, shape: Size, size: Size) -> Box:
    """A box grown to the shape of `shape` about its middle, and moved so that it lies inside the image.

    Where the image is too short for that shape, the box ends with the image.

    >>> shaped((0, 0, 4, 2), (8, 8), (10, 10)), shaped((0, 0, 4, 2), (8, 8), (10, 3))
    ((0, 0, 4, 4), (0, 0, 4, 3))
    """
    left, upper, right, lower = box
    width, height = right - left, lower - upper
    wide = max(width, -(-height * shape[0] // shape[1]))
    high = max(height, -(-width * shape[1] // shape[0]))
    left, right = _grown(left, width, wide, size[0])
    upper, lower = _grown(upper, height, high, size[1])
    return left, upper, right, lower


def size_of(box: Box) -> Size:
    """Width and height."""
    return box[2] - box[0], box[3] - box[1]


def fitted_box(size: Size, target: Size) -> Box:
    """Where an image of `size` lies in `target` when all of it shows, in its own shape and in the middle.

    >>> fitted_box((128, 64), (64, 64)), fitted_box((100, 101), (64, 64))
    ((0, 16, 64, 48), (0, 0, 63, 64))
    """
    scale = min(target[0] / size[0], target[1] / size[1])
    width, height = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    left, upper = (target[0] - width) // 2, (target[1] - height) // 2
    return left, upper, left + width, upper + height


def _grown(start: int, length: int, wanted: int, limit: int) -> tuple[int, int]:
    length, wanted = min(length, limit), min(wanted, limit)
    start = min(max(0, start - (wanted - length) // 2), limit - wanted)
    return start, start + wanted
