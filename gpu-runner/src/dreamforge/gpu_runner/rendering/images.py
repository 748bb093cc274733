"""Uploaded pictures as a pipeline wants them. Import this only in the child."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import InputImage
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: What shows through a transparent picture: paper.
BACKGROUND = "white"


def read_picture(source: InputImage, *, width_px: int, height_px: int) -> Image.Image:
    """RGB at this size, turned as its camera held it; what is transparent becomes white.

    Errors: RenderFailed(invalid_request) if the file is no picture.
    """
    with _opened(source) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGBA")
    paper = Image.new("RGBA", upright.size, BACKGROUND)
    return enlarge(Image.alpha_composite(paper, upright).convert("RGB"), width_px=width_px, height_px=height_px)


def read_mask(source: InputImage, *, width_px: int, height_px: int) -> Image.Image:
    """Grey at this size: what is white is painted anew. Errors: RenderFailed(invalid_request)."""
    with _opened(source) as picture:
        # Bilinear: Lanczos rings, and would paint a faint frame around the hole.
        return ImageOps.exif_transpose(picture).convert("L").resize((width_px, height_px), Image.Resampling.BILINEAR)


def enlarge(picture: Image.Image, *, width_px: int, height_px: int) -> Image.Image:
    """A picture at another size."""
    if picture.size == (width_px, height_px):
        return picture
    return picture.resize((width_px, height_px), Image.Resampling.LANCZOS)


def as_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Bytes (height, width, 3) as a picture."""
    return Image.fromarray(pixels)


def _opened(source: InputImage) -> Image.Image:
    try:
        picture = Image.open(source.path)
        picture.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        message = f"input {source.sha256[:12]} is not a picture that can be read: {error}"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message) from error
    return picture
