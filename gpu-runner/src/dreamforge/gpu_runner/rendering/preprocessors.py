"""What a ControlNet follows, made from an image without a model: edges, lines, tones, coarse colours. Pure."""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from dreamforge.contracts.request.preprocessing import Preprocessing, PreprocessorName
from dreamforge.gpu_runner.rendering.canny import edges

#: How much darker than around it a stroke is at least that becomes white: fainter ones are not made stronger than that.
_FULL_STROKE = 48.0
#: The share of pixels that are no darker than the strokes that become white.
_STROKES_FROM = 99.0


def preprocessed(image: Image.Image, how: Preprocessing) -> Image.Image:
    """The map of an image: of the same size, mode RGB."""
    return _METHODS[how.name](image, how).convert("RGB")


def _canny(image: Image.Image, how: Preprocessing) -> Image.Image:
    grey = np.asarray(_blurred(image.convert("L"), how), np.float32)
    found = edges(grey, how.setting("low"), how.setting("high"))
    return Image.fromarray(found.astype(np.uint8) * np.uint8(255))


def _lineart(image: Image.Image, how: Preprocessing) -> Image.Image:
    """What is darker than its surroundings, as light on black."""
    grey = image.convert("L")
    darker = np.asarray(_blurred(grey, how), np.float32) - np.asarray(grey, np.float32)
    full = max(float(np.percentile(darker, _STROKES_FROM)), _FULL_STROKE)
    return Image.fromarray(np.clip(np.rint(darker * (255 / full)), 0, 255).astype(np.uint8))


def _tile(image: Image.Image, how: Preprocessing) -> Image.Image:
    factor = how.setting("factor")
    small = (max(1, round(image.width / factor)), max(1, round(image.height / factor)))
    return image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


def _blurred(image: Image.Image, how: Preprocessing) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(how.setting("sigma_px")))


_METHODS: Mapping[PreprocessorName, Callable[[Image.Image, Preprocessing], Image.Image]] = {
    "canny": _canny,
    "lineart": _lineart,
    "invert": lambda image, _: ImageOps.invert(image),
    "grayscale": lambda image, _: ImageOps.grayscale(image),
    "blur": _blurred,
    "tile": _tile,
}
