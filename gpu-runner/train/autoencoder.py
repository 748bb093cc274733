"""Teaches the autoencoder the latents the denoiser was trained on: sharp pixels from them, and them from pixels."""

from dataclasses import dataclass
from typing import Any

import torch
from data import make_batch
from grammar import Mix
from model import build_autoencoder
from patches import Basis
from settings import Settings
from torch import nn

#: Noise on the latents that the decoder learns from, in units of their deviation: the denoiser is never exact.
DECODER_NOISE = 0.1
#: The encoder has the easier task, and painting from text does without it: it learns on every third batch.
ENCODER_EVERY = 3
#: Batches of the autoencoder come from another stream than the denoiser's.
STREAM = 77


@dataclass(slots=True)
class AutoencoderTraining:
    """A run between two steps. It is short: it starts again instead of resuming."""

    settings: Settings
    basis: Basis
    model: Any
    optimiser: torch.optim.Optimizer
    step: int = 0


def begin(settings: Settings, basis: Basis, device: torch.device) -> AutoencoderTraining:
    """Weights from the seed, started near the identity."""
    torch.manual_seed(settings.seed)
    model = build_autoencoder(settings)
    _start_near_identity(model)
    model.to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.autoencoder_rate, betas=(0.9, 0.99), fused=True)
    return AutoencoderTraining(settings, basis, model, optimiser)


def advance(run: AutoencoderTraining) -> float:
    """One step of both halves; returns the decoder's mean squared error in units of -1..1."""
    s = run.settings
    for group in run.optimiser.param_groups:
        group["lr"] = s.autoencoder_rate * min(1.0, (run.step + 1) / 50) * (1 - run.step / s.autoencoder_steps)
    device = next(run.model.parameters()).device
    pixels = make_batch(s.seed + STREAM, run.step, s.autoencoder_batch, s.max_tokens, 0.0, Mix()).pixels
    chance = torch.Generator().manual_seed(s.seed * 1_000_003 + run.step)
    clean = run.basis.encode(pixels)
    noisy = clean + DECODER_NOISE * torch.randn(clean.shape, generator=chance)
    scale = run.model.config.scaling_factor
    with torch.autocast(device.type, torch.bfloat16, enabled=s.bf16):
        painted = run.model.decoder((noisy / scale).to(device, memory_format=torch.channels_last)).float()
    error = nn.functional.mse_loss(painted, pixels.to(device))
    # The absolute error keeps flat areas flat; the squared one gets the edges right first.
    loss = error + 0.2 * nn.functional.l1_loss(painted, pixels.to(device))
    if run.step % ENCODER_EVERY == 0:
        with torch.autocast(device.type, torch.bfloat16, enabled=s.bf16):
            latents = run.model.encoder(pixels.to(device, memory_format=torch.channels_last)).float() * scale
        loss = loss + 0.1 * nn.functional.mse_loss(latents, clean.to(device))
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimiser.step()
    run.optimiser.zero_grad()
    run.step += 1
    return float(error.detach())


@torch.no_grad()
def _start_near_identity(model: Any) -> None:
    """Every convolution between equal widths passes its input on, every residual branch adds nothing yet.

    From the stock initialisation the decoder takes a hundred times as long to get past grey.
    """
    for half in (model.encoder, model.decoder):
        for module in half.modules():
            if isinstance(module, nn.Conv2d) and module.in_channels == module.out_channels:
                nn.init.dirac_(module.weight)
                module.weight += 0.02 * torch.randn_like(module.weight)
        for block in half.layers:
            if hasattr(block, "conv") and hasattr(block, "fuse"):
                nn.init.zeros_(block.conv[-1].weight)
                nn.init.kaiming_normal_(block.conv[0].weight)
                nn.init.kaiming_normal_(block.conv[2].weight)
    # The decoder's first activation is a ReLU: lifted above zero, it lets everything through.
    nn.init.ones_(model.decoder.layers[0].bias)
