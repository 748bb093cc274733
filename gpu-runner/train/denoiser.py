"""Trains the denoiser and its text encoder on the latents of endless pictures."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from data import Batch, make_batch
from grammar import Mix
from model import build_denoiser, build_scheduler, build_text_encoder, signal_and_noise
from patches import Basis
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from settings import Settings
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class TextToLatents(nn.Module):
    """Text encoder and U-Net as one module: what is trained, averaged and saved together."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.text_encoder = build_text_encoder(settings)
        self.unet = build_denoiser(settings)

    def forward(self, latents: torch.Tensor, times: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Predicted velocity, shape of `latents` (B, C, 8, 8); times (B,), tokens (B, T)."""
        said = self.text_encoder(tokens)[0]
        velocity: torch.Tensor = self.unet(latents, times, said, return_dict=False)[0]
        return velocity


@dataclass(slots=True)
class Training:
    """A run between two steps; everything that a checkpoint must bring back."""

    settings: Settings
    basis: Basis
    model: TextToLatents
    averaged: TextToLatents
    optimiser: torch.optim.Optimizer
    step: int = 0
    losses: list[float] = field(default_factory=list)


def begin(settings: Settings, basis: Basis, device: torch.device) -> Training:
    """A fresh run with weights from the seed."""
    torch.manual_seed(settings.seed)
    model = TextToLatents(settings).to(device)
    averaged = TextToLatents(settings).to(device).requires_grad_(False)
    averaged.load_state_dict(model.state_dict())
    rate = settings.learning_rate
    # fused: one pass over the parameters, a tenth of the step's cost otherwise.
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    return Training(settings, basis, model, averaged, optimiser)


def advance(run: Training) -> None:
    """One step: a new batch, its loss, the new weights and their average."""
    for group in run.optimiser.param_groups:
        group["lr"] = rate_at(run.settings, run.step)
    loss = _loss(run, _batch(run))
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimiser.step()
    run.optimiser.zero_grad()
    run.step += 1
    _average(run)
    run.losses.append(float(loss.detach()))


def rate_at(settings: Settings, step: int) -> float:
    """Warm up, stay, cool down: the cooldown can be decided late, by a run resumed with other settings."""
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    left = (settings.steps - step) / max(1.0, settings.cooldown * settings.steps)
    return settings.learning_rate * warm * min(1.0, max(left, 0.0))


def shapes_first_at(settings: Settings, step: int) -> float:
    """Share of the simplest pictures: all at first, then falling to none."""
    done = (step - settings.shapes_first_steps) / max(1, settings.blend_steps)
    return min(1.0, max(0.0, 1 - done))


def _batch(run: Training) -> Batch:
    s = run.settings
    return make_batch(s.seed, run.step, s.batch, s.max_tokens, shapes_first_at(s, run.step), Mix(*s.mix))


def _loss(run: Training, batch: Batch) -> torch.Tensor:
    device = next(run.model.parameters()).device
    chance = torch.Generator().manual_seed(run.settings.seed * 1_000_003 + run.step)
    clean = run.basis.encode(batch.pixels)
    noise = torch.randn(clean.shape, generator=chance)
    share = torch.rand(len(clean), generator=chance) ** (1 / (1 + run.settings.noise_bias))
    times = (share * 1000).long().clamp(0, 999)
    signal, dirt = (part[times].view(-1, 1, 1, 1) for part in _SCHEDULE)
    noisy, velocity = signal * clean + dirt * noise, signal * noise - dirt * clean
    # The stock fused attention is the slowest part of the backward pass on a CPU at 16 tokens.
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(device.type, torch.bfloat16, enabled=run.settings.bf16):
        guess = run.model(noisy.to(device), times.to(device), batch.tokens.to(device))
    return nn.functional.mse_loss(guess.float(), velocity.to(device))


@torch.no_grad()
def _average(run: Training) -> None:
    # Early on a long average would remember the random weights.
    keep = min(run.settings.ema, (1 + run.step) / (10 + run.step))
    torch._foreach_lerp_(list(run.averaged.parameters()), list(run.model.parameters()), 1 - keep)


def save(run: Training, path: Path) -> None:
    """Write a checkpoint beside its place, then put it there: a kill leaves the old one or the new one."""
    tensors = dict(_prefixed("model.", run.model.state_dict())) | dict(_prefixed("ema.", run.averaged.state_dict()))
    for number, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value for name, value in state.items()}
    partial = path.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(partial), metadata={"step": str(run.step)})
    partial.replace(path)


def restore(run: Training, path: Path) -> None:
    """Continue where `save` was called; the batches that follow are the ones that would have followed."""
    with safe_open(str(path), "pt") as file:
        run.step = int(file.metadata()["step"])
    tensors = load_file(str(path))
    run.model.load_state_dict(dict(_stripped("model.", tensors)))
    run.averaged.load_state_dict(dict(_stripped("ema.", tensors)))
    state: dict[int, dict[str, Any]] = {}
    for name, value in _stripped("adam.", tensors):
        number, key = name.split(".")
        state.setdefault(int(number), {})[key] = value
    groups = run.optimiser.state_dict()["param_groups"]
    run.optimiser.load_state_dict({"state": state, "param_groups": groups})


def _prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    return ((prefix + name, value) for name, value in tensors.items())


def _stripped(prefix: str, tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name.removeprefix(prefix), value) for name, value in tensors.items() if name.startswith(prefix))


_SCHEDULE = signal_and_noise(build_scheduler())
