"""Images as a pipeline wants them and gives them. Import this only in the child."""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dreamforge.gpu_runner.rendering.regions import Box, fitted_box, size_of

WHITE = 255
#: The model renders anew from here on; what is below is only blended.
HALF = 128


def enlarge(image: Image.Image, *, width_px: int, height_px: int) -> Image.Image:
    """An image at another size."""
    if image.size == (width_px, height_px):
        return image
    return image.resize((width_px, height_px), Image.Resampling.LANCZOS)


def as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Bytes (height, width, 3) as an image."""
    return Image.fromarray(pixels)


def pasted(rendered: torch.Tensor, image: Image.Image, mask: Image.Image) -> torch.Tensor:
    """The rendered pixels where the mask is 255, exactly those of the image where it is 0, and between them a blend.

    Shapes: rendered is (height, width, 3) bytes; image and mask are (width, height), of mode RGB and L.
    """
    kept = torch.from_numpy(np.array(image, dtype=np.int32))
    share = torch.from_numpy(np.array(mask, dtype=np.int32))[:, :, None]
    blended = (rendered.to(torch.int32) * share + kept * (WHITE - share) + WHITE // 2) // WHITE
    return blended.to(torch.uint8)


def put_back(rendered: torch.Tensor, image: Image.Image, mask: Image.Image, box: Box) -> torch.Tensor:
    """The image with what was rendered of a box of it, where the mask is not 0; every other pixel as it was.

    Shapes: rendered is (height, width, 3) bytes of any size, in which the box lies as `fitted_box` says; image and mask
    are the whole ones.
    """
    whole = torch.from_numpy(np.array(image))
    size = size_of(box)
    part = as_image(rendered.numpy())
    part = enlarge(part.crop(fitted_box(size, part.size)), width_px=size[0], height_px=size[1])
    blended = pasted(torch.from_numpy(np.array(part)), image.crop(box), mask.crop(box))
    left, upper, right, lower = box
    whole[upper:lower, left:right] = blended
    return whole


def marked_anew(mask: Image.Image) -> torch.Tensor:
    """Where a mask has the model render anew: (height, width) of booleans."""
    return torch.from_numpy(np.asarray(mask) >= HALF)


def as_bytes(images: torch.Tensor) -> torch.Tensor | None:
    """Bytes (height, width, 3) of the first image of (1, 3, height, width) floats in [0, 1]; None if one is no number.

    >>> as_bytes(torch.tensor([[[[1.0]], [[0.5]], [[0.0]]]])).tolist()
    [[[255, 128, 0]]]
    """
    image = images[0].float().cpu()
    if not bool(torch.isfinite(image).all()):
        return None
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def as_bytes_of_frames(frames: torch.Tensor) -> torch.Tensor | None:
    """Bytes (frames, height, width, 3) of (frames, 3, height, width) floats in [0, 1]; None if one is no number."""
    each = [as_bytes(frame[None]) for frame in frames]
    numbers = [pixels for pixels in each if pixels is not None]
    return torch.stack(numbers) if len(numbers) == len(each) else None


def as_bytes_of_each(images: torch.Tensor) -> torch.Tensor:
    """Bytes (batch, height, width, 3) of (batch, 3, height, width) floats in [0, 1]; black where one is no number."""
    each = [as_bytes(image[None]) for image in images]
    black = torch.zeros((*images.shape[2:], 3), dtype=torch.uint8)
    return torch.stack([black if pixels is None else pixels for pixels in each])
