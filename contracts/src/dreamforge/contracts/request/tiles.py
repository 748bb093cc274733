"""An image in tiles that overlap: where each begins and ends. Pure.

A box is (left, upper, right, lower) in pixels, the last two excluded, as Pillow has them.
"""

from collections.abc import Iterator

Box = tuple[int, int, int, int]


def spans(length: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Where tiles begin and end along one side: all of one length where they fit, each `overlap` or more over the next.

    >>> spans(10, 4, 1), spans(3, 4, 1)
    ([(0, 4), (3, 7), (6, 10)], [(0, 3)])
    """
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(number * (length - tile) / (count - 1)) for number in range(count)]
    return [(start, start + tile) for start in starts]


def boxes(width: int, height: int, tile: int, overlap: int) -> Iterator[Box]:
    """The tiles of an image, row by row."""
    for upper, lower in spans(height, tile, overlap):
        for left, right in spans(width, tile, overlap):
            yield left, upper, right, lower


def tiled_px(width: int, height: int, tile: int, overlap: int) -> int:
    """The pixels of all tiles together.

    >>> tiled_px(10, 4, 4, 1), tiled_px(3, 3, 4, 1)
    (48, 9)
    """
    along, down = (len(spans(length, tile, overlap)) for length in (width, height))
    return along * down * min(tile, width) * min(tile, height)
