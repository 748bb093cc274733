"""An image in tiles that overlap, and the tiles enlarged as one image again, without a seam. Pure, but for the network.

So an image of any size is enlarged in the memory of one tile. The same image in the same tiles gives the same bytes.
"""

from collections.abc import Callable

import torch

from dreamforge.contracts.models.family_defaults import UPSCALER_TILE_PX
from dreamforge.contracts.request.tiles import boxes

#: The width in which two tiles are blended, in pixels of the small image: twice what A1111 takes.
OVERLAP_PX = 16
#: (1, 3, height, width) in, `scale` times both sides out.
Enlarge = Callable[[torch.Tensor], torch.Tensor]


def enlarged_in_tiles(
    image: torch.Tensor, enlarge: Enlarge, scale: int, *, tile_px: int = UPSCALER_TILE_PX, overlap_px: int = OVERLAP_PX
) -> torch.Tensor:
    """The whole image enlarged.

    Shapes: image is (1, 3, height, width) in [0, 1], on any device; (height, width, 3) bytes come out, on the CPU.
    """
    height, width = image.shape[2:]
    total = torch.zeros(3, height * scale, width * scale)
    weights = torch.zeros(1, height * scale, width * scale)
    for left, upper, right, lower in boxes(width, height, tile_px, overlap_px):
        part = enlarge(image[:, :, upper:lower, left:right])[0].float().cpu().clamp(0, 1)
        weight = _ramp(lower - upper, overlap_px, scale)[:, None] * _ramp(right - left, overlap_px, scale)[None, :]
        place = (slice(None), slice(upper * scale, lower * scale), slice(left * scale, right * scale))
        total[place] += part * weight
        weights[place] += weight
    return (total / weights * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def _ramp(length: int, overlap: int, scale: int) -> torch.Tensor:
    """How much of a tile counts along one side: less towards both ends, never nothing."""
    places = torch.arange(length * scale, dtype=torch.float32) + 0.5
    from_end = torch.minimum(places, length * scale - places)
    return (from_end / (max(1, overlap) * scale)).clamp(max=1.0)
