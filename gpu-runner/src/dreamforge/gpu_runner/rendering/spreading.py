"""The colours around a hole, spread into it: what `mask_fill` fill starts from. Import this only in the child."""

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate, pad

#: Where nothing is known of any pixel: middle grey, the least wrong of all colours.
UNKNOWN = 0.5
WHITE = 255


def spread_into(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The image, and where the mask is white the colours around it, smoother the further from its edge.

    Shapes: image and mask are (width, height), of mode RGB and L; a grey of the mask is a blend.
    """
    known = 1 - torch.from_numpy(np.array(mask, dtype=np.float32))[None, None] / WHITE
    colours = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1)[None] / WHITE
    spread = (_spread(colours * known, known)[0] * WHITE).round().to(torch.uint8).permute(1, 2, 0)
    return Image.composite(Image.fromarray(spread.numpy()), image, mask)


def _spread(colours: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """What is known, and elsewhere the same of the image at half its size, enlarged (pull and push).

    Shapes: colours (1, 3, height, width), each times how well it is known; known (1, 1, height, width) in [0, 1].
    Source: S. Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4.
    """
    height, width = known.shape[2:]
    if height == width == 1:
        return colours + (1 - known) * UNKNOWN
    less = _summed(known)
    smaller = _spread(_summed(colours) / less.clamp(min=1), less.clamp(max=1))
    larger = interpolate(smaller, scale_factor=2, mode="bilinear", align_corners=False)[:, :, :height, :width]
    return colours + (1 - known) * larger


def _summed(values: torch.Tensor) -> torch.Tensor:
    """The sums of squares of 2 x 2; beyond an odd side there is nothing."""
    height, width = values.shape[2:]
    even = pad(values, (0, width % 2, 0, height % 2))
    return even[:, :, ::2, ::2] + even[:, :, 1::2, ::2] + even[:, :, ::2, 1::2] + even[:, :, 1::2, 1::2]
