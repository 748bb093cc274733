"""Latents by linear algebra: the principal components of 8 x 8 patches, so that training needs no encoder.

The denoiser learns on these from the first second, and the autoencoder is taught them later (or meanwhile):
its encoder to compute them, its decoder to turn them back into sharp pixels.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from draw import draw
from grammar import Mix, sample
from layout import arrange
from safetensors.torch import load_file, save_file

PATCH_PX = 8
#: Pictures the components are computed from; 128,000 patches for 192 dimensions.
BASIS_PICTURES = 2000
#: 1 would give every component unit variance, 0 would leave fine detail far smaller than colour.
WHITENING = 0.7


@dataclass(frozen=True, slots=True)
class Basis:
    """`latent = (patch - mean) @ down`, `patch = latent @ up + mean`; down (192, C), up (C, 192), mean (192,)."""

    mean: torch.Tensor
    down: torch.Tensor
    up: torch.Tensor

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, H/8, W/8) of pixels (B, 3, H, W) in -1..1."""
        patches = torch.nn.functional.pixel_unshuffle(pixels, PATCH_PX).movedim(1, -1)
        return ((patches - self.mean) @ self.down).movedim(-1, 1).contiguous()

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pixels whose latents these are: blurred by what the components leave out, but without any training."""
        patches = latents.movedim(1, -1) @ self.up + self.mean
        return torch.nn.functional.pixel_shuffle(patches.movedim(-1, 1), PATCH_PX)

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        save_file({"mean": self.mean, "down": self.down.contiguous(), "up": self.up.contiguous()}, str(path))


def load_basis(path: Path) -> Basis:
    """Read what `Basis.save` wrote."""
    return Basis(**load_file(str(path)))


def compute_basis(channels: int, seed: int) -> Basis:
    """The first `channels` components of pictures drawn from `seed`; about two seconds."""
    pictures = [draw(arrange(sample(rng, Mix()), rng)) for rng in _streams(seed, BASIS_PICTURES)]
    patches = torch.nn.functional.pixel_unshuffle(to_pixels(np.stack(pictures)), PATCH_PX).movedim(1, -1)
    flat = patches.reshape(-1, 3 * PATCH_PX**2).double()
    mean = flat.mean(0)
    variance, vectors = torch.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    deviation = variance.flip(0)[:channels].clamp_min(1e-9).sqrt()
    scale = deviation**-WHITENING
    scale = scale / (deviation * scale).square().mean().sqrt()
    vectors = vectors.flip(1)[:, :channels]
    return Basis(mean.float(), (vectors * scale).float(), (vectors / scale).T.float())


def to_pixels(pictures: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Pictures (B, H, W, 3), uint8, as the model sees them: (B, 3, H, W) in -1..1."""
    return torch.from_numpy(pictures).movedim(-1, 1).float() / 127.5 - 1


def to_pictures(pixels: torch.Tensor) -> npt.NDArray[np.uint8]:
    """The way back, rounded and clipped."""
    levels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.movedim(1, -1).contiguous().numpy()


def _streams(seed: int, count: int) -> list[np.random.Generator]:
    return [np.random.default_rng((seed, number)) for number in range(count)]
