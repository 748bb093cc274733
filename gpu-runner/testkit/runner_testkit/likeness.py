"""How much two rendered images are alike."""

import math

from dreamforge.gpu_runner.rendering.renderer import RenderedImage


def psnr_db(one: RenderedImage, other: RenderedImage, width_px: int = 64) -> float:
    """Peak signal-to-noise ratio of two images of this width; infinite where they are equal."""
    first, second = pixels_of(one, width_px), pixels_of(other, width_px)
    error = sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) / len(first)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def pixels_of(image: RenderedImage, width_px: int) -> list[int]:
    """Rows without their filter: each byte of a row is the difference to the pixel before it."""
    width_bytes, found = 1 + 3 * width_px, []
    for start in range(0, len(image.scanlines), width_bytes):
        row, before = image.scanlines[start + 1 : start + width_bytes], [0, 0, 0]
        for place, value in enumerate(row):
            before[place % 3] = (before[place % 3] + value) % 256
            found.append(before[place % 3])
    return found
