"""The networks that enlarge images, as torch modules: RRDBNet and SRVGGNetCompact. Import this only in the child.

Written from the papers and the names of the weights; `runtime.storage.upscaler_layout` says which file is which.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import interpolate, leaky_relu, pixel_shuffle, pixel_unshuffle

from dreamforge.runtime.storage.upscaler_layout import (
    COLOURS,
    DENSE_BLOCKS,
    DENSE_CONVOLUTIONS,
    CompactLayout,
    RrdbLayout,
    UpscalerLayout,
)

#: How much of a block's output is added to its input, and the slope below 0 (ESRGAN, arXiv:1809.00219).
RESIDUAL, SLOPE = 0.2, 0.2


class _DenseBlock(nn.Module):
    """Each convolution reads what all before it gave."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for number in range(1, DENSE_CONVOLUTIONS + 1):
            out = width if number == DENSE_CONVOLUTIONS else growth
            self.add_module(f"conv{number}", _convolution(width + (number - 1) * growth, out))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features, *convolutions = image, *self.children()
        for convolution in convolutions[:-1]:
            features = torch.cat((features, leaky_relu(convolution(features), SLOPE)), dim=1)
        out: torch.Tensor = convolutions[-1](features)
        return image + out * RESIDUAL


class _ResidualBlock(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for number in range(1, DENSE_BLOCKS + 1):
            self.add_module(f"rdb{number}", _DenseBlock(width, growth))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        out = image
        for block in self.children():
            out = block(out)
        return image + out * RESIDUAL


class RrdbNet(nn.Module):
    """ESRGAN's generator. Shapes: (1, 3, height, width) in [0, 1] in, `scale` times both sides out."""

    def __init__(self, layout: RrdbLayout) -> None:
        super().__init__()
        self.scale, self.fold = layout.scale, layout.fold
        width = layout.width
        self.conv_first = _convolution(COLOURS * layout.fold**2, width)
        self.body = nn.Sequential(*(_ResidualBlock(width, layout.growth) for _ in range(layout.blocks)))
        self.conv_body = _convolution(width, width)
        self.doublings = tuple(f"conv_up{number + 1}" for number in range(layout.doublings))
        for name in self.doublings:
            self.add_module(name, _convolution(width, width))
        self.conv_hr = _convolution(width, width)
        self.conv_last = _convolution(width, COLOURS)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The image enlarged; its sides are multiples of `fold`."""
        features = self.conv_first(pixel_unshuffle(image, self.fold))
        features = features + self.conv_body(self.body(features))
        for name in self.doublings:
            larger = interpolate(features, scale_factor=2, mode="nearest")
            features = leaky_relu(self.get_submodule(name)(larger), SLOPE)
        out: torch.Tensor = self.conv_last(leaky_relu(self.conv_hr(features), SLOPE))
        return out


class CompactNet(nn.Module):
    """Real-ESRGAN's compact generator: what it finds is added to the image, enlarged by the nearest pixel."""

    fold = 1

    def __init__(self, layout: CompactLayout) -> None:
        super().__init__()
        self.scale = layout.scale
        widths = [COLOURS, *[layout.width] * (layout.convolutions + 1)]
        body: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            body += [_convolution(inputs, outputs), nn.PReLU(outputs)]
        self.body = nn.Sequential(*body, _convolution(layout.width, COLOURS * layout.scale**2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The image enlarged."""
        return pixel_shuffle(self.body(image), self.scale) + interpolate(image, scale_factor=self.scale, mode="nearest")


UpscalerNet = RrdbNet | CompactNet


def network_of(layout: UpscalerLayout) -> UpscalerNet:
    """The network of a layout, with weights that are still to be loaded."""
    return RrdbNet(layout) if isinstance(layout, RrdbLayout) else CompactNet(layout)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
