"""Images as a pipeline wants them and gives them. Import this only in the child."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.render_task import InputImage
from dreamforge.gpu_runner.rendering.renderer import RenderFailed

#: What shows through a transparent image: paper.
BACKGROUND = "white"


def read_image(source: InputImage, *, width_px: int, height_px: int) -> Image.Image:
    """RGB at this size, turned as its camera held it; what is transparent becomes white.

    Errors: RenderFailed(invalid_request) if the file is no image.
    """
    with _opened(source) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGBA")
    paper = Image.new("RGBA", upright.size, BACKGROUND)
    return enlarge(Image.alpha_composite(paper, upright).convert("RGB"), width_px=width_px, height_px=height_px)


def read_mask(source: InputImage, *, width_px: int, height_px: int) -> Image.Image:
    """Grey at this size: what is white is rendered anew. Errors: RenderFailed(invalid_request)."""
    with _opened(source) as opened:
        # Bilinear: Lanczos rings, and would leave a faint frame around the hole.
        return ImageOps.exif_transpose(opened).convert("L").resize((width_px, height_px), Image.Resampling.BILINEAR)


def enlarge(image: Image.Image, *, width_px: int, height_px: int) -> Image.Image:
    """An image at another size."""
    if image.size == (width_px, height_px):
        return image
    return image.resize((width_px, height_px), Image.Resampling.LANCZOS)


def as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Bytes (height, width, 3) as an image."""
    return Image.fromarray(pixels)


def as_bytes(images: torch.Tensor) -> torch.Tensor | None:
    """Bytes (height, width, 3) of the first image of (1, 3, height, width) floats in [0, 1]; None if one is no number.

    >>> as_bytes(torch.tensor([[[[1.0]], [[0.5]], [[0.0]]]])).tolist()
    [[[255, 128, 0]]]
    """
    image = images[0].float().cpu()
    if not bool(torch.isfinite(image).all()):
        return None
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def _opened(source: InputImage) -> Image.Image:
    try:
        image = Image.open(source.path)
        image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        message = f"input {source.sha256[:12]} is not an image that can be read: {error}"
        raise RenderFailed(FailureReason.INVALID_REQUEST, message) from error
    return image
