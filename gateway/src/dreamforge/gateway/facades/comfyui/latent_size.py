"""A render whose latent is an encoded image of which only the size counts. Pure.

A model that edits starts from noise and sees the image as a reference. ComfyUI's template gives its sampler the encoded
reference with a denoise of 1: the noise takes its place, and its size is that of the render.
"""

from dataclasses import dataclass

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.gateway.facades.comfyui.passes import SamplerPass

Size = tuple[int, int]
#: Width and height of the landscapes that FLUX Kontext was trained with; portraits are the same, turned.
#: Source: src/flux/util.py of black-forest-labs/flux. ComfyUI's FluxKontextImageScale has the same list.
KONTEXT_LANDSCAPES: tuple[Size, ...] = (
    *((1024, 1024), (1104, 944), (1184, 880), (1248, 832), (1328, 800)),
    *((1392, 752), (1456, 720), (1504, 688), (1568, 672)),
)
KONTEXT_SIZES = tuple(sorted({*KONTEXT_LANDSCAPES, *((high, wide) for wide, high in KONTEXT_LANDSCAPES)}))


@dataclass(frozen=True, slots=True)
class SizeSource:
    """An image by its name, and how the size of the render follows from its own."""

    name: str
    scaled: bool
    """Whether it is scaled to the size of Kontext whose shape is nearest."""
    multiple_px: int

    def size_px(self, image: Size) -> Size:
        """Width and height of the render.

        >>> SizeSource("a.png", True, 16).size_px((4000, 3000)), SizeSource("a.png", False, 16).size_px((650, 500))
        ((1184, 880), (640, 496))
        """
        wide, high = image
        if self.scaled:
            return min(KONTEXT_SIZES, key=lambda size: (abs(wide / high - size[0] / size[1]), size))
        return wide - wide % self.multiple_px, high - high % self.multiple_px


def is_size_alone(model: ModelDescriptor, one: SamplerPass) -> bool:
    """Whether nothing of an encoded image is left in the first step: flow models begin with noise alone."""
    can = model.capabilities
    return can.references_max > 0 and "image" not in can.modes and one.strength == 1
