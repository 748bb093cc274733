"""Everything that decides a training run, read from a TOML file."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """One run. Equal settings and an equal machine give equal weights."""

    seed: int = 1
    device: str = "auto"
    threads: int = 1
    #: Autocast the denoiser's forward pass to bfloat16.
    bf16: bool = True

    latent_channels: int = 16
    max_tokens: int = 20
    text_width: int = 128
    text_layers: int = 1
    text_heads: int = 4
    channels: tuple[int, ...] = (64, 192)
    attention: tuple[bool, ...] = (False, True)
    layers: int = 1
    head_width: int = 32
    autoencoder_width: int = 48

    #: Shares of captions with one thing, several of a kind, two different things, a scene.
    mix: tuple[float, float, float, float] = (0.5, 0.15, 0.2, 0.15)
    steps: int = 12_000
    batch: int = 32
    learning_rate: float = 1.5e-3
    warmup_steps: int = 200
    #: The rate is constant, then falls to nothing over this last share of the steps.
    cooldown: float = 0.3
    #: Steps with pictures of one thing in the middle only, and steps over which these give way to everything.
    shapes_first_steps: int = 1200
    blend_steps: int = 800
    ema: float = 0.999
    #: Training steps are drawn with density t**noise_bias: 0 is uniform, 1 prefers noise, where outlines are decided.
    noise_bias: float = 1.0

    autoencoder_steps: int = 1500
    autoencoder_batch: int = 16
    autoencoder_rate: float = 2e-3

    save_every: int = 200
    score_every: int = 600
    score_captions: int = 64


def load_settings(path: Path) -> Settings:
    """Settings from a TOML file; unknown keys are errors, missing ones have their defaults."""
    values = tomllib.loads(path.read_text())
    known = {field.name for field in fields(Settings)}
    if unknown := set(values) - known:
        raise ValueError(f"{path}: unknown settings {sorted(unknown)}")
    # Any: TOML values, as their fields say.
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Settings(**given)
