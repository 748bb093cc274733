"""An image at the size of a render: cropped, fitted in or stretched, as the request says. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from dreamforge.contracts.request.values import ResizeMode
from dreamforge.gpu_runner.rendering.regions import Size, fitted_box, size_of


@dataclass(frozen=True, slots=True)
class Target:
    """What an image is brought to. `margin` lies around it where it is fitted in; None: its own edge, repeated.

    `change`, to an image of the same size, is made at the scale of the target, before there is a margin.
    """

    size_px: Size
    mode: ResizeMode
    resampling: Image.Resampling = Image.Resampling.LANCZOS
    margin: int | None = None
    change: Callable[[Image.Image], Image.Image] | None = None


def resized(image: Image.Image, target: Target) -> tuple[Image.Image, str]:
    """The image at this size, and what became of its shape: empty where it has the shape already."""
    change = f"{_text(image.size)} to {_text(target.size_px)}, another shape"
    if has_shape_of(image.size, target.size_px):
        return _scaled(image, target.size_px, target), ""
    match target.mode:
        case "stretch":
            return _scaled(image, target.size_px, target), f"stretched from {change}"
        case "crop":
            box = crop_box(image.size, target.size_px)
            return _scaled(image, target.size_px, target, box), f"cropped from {change}"
        case "fit":
            return _fitted(image, target), f"fitted with margins from {change}"


def has_shape_of(size: Size, other: Size) -> bool:
    """Whether one is the other enlarged or reduced: to within a pixel of either.

    >>> has_shape_of((1000, 667), (768, 512)), has_shape_of((192, 64), (64, 64))
    (True, False)
    """
    return abs(size[0] * other[1] - size[1] * other[0]) < max(*size, *other)


def crop_box(size: Size, target: Size) -> tuple[float, float, float, float]:
    """The largest middle part of an image that has the shape of `target`: left, upper, right, lower.

    >>> crop_box((192, 64), (32, 32))
    (64.0, 0.0, 128.0, 64.0)
    """
    scale = min(size[0] / target[0], size[1] / target[1])
    width, height = min(size[0], target[0] * scale), min(size[1], target[1] * scale)
    left, upper = (size[0] - width) / 2, (size[1] - height) / 2
    return left, upper, left + width, upper + height


def _fitted(image: Image.Image, target: Target) -> Image.Image:
    left, upper, right, lower = box = fitted_box(image.size, target.size_px)
    around = [(upper, target.size_px[1] - lower), (left, target.size_px[0] - right), (0, 0)]
    pixels = np.asarray(_scaled(image, size_of(box), target))
    if target.margin is None:
        padded = np.pad(pixels, around[: pixels.ndim], mode="edge")
    else:
        padded = np.pad(pixels, around[: pixels.ndim], mode="constant", constant_values=target.margin)
    return Image.fromarray(padded)


def _scaled(
    image: Image.Image, size: Size, target: Target, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    scaled = image if image.size == size else image.resize(size, target.resampling, box)
    return scaled if target.change is None else target.change(scaled)


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
