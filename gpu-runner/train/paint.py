"""Paints captions with the parts in training, on the same scheduler and guidance as the pipeline that ships."""

import numpy as np
import numpy.typing as npt
import torch
from data import encode_words
from denoiser import TextToLatents
from model import build_scheduler
from patches import Basis, to_pictures

STEPS, GUIDANCE = 10, 3.0


@torch.no_grad()
def paint(model: TextToLatents, basis: Basis, texts: list[str], max_tokens: int, seed: int) -> npt.NDArray[np.uint8]:
    """Pictures (B, 64, 64, 3), blurred as `Basis.decode` blurs: enough to score a run while it runs."""
    device = next(model.parameters()).device
    scheduler = build_scheduler()
    scheduler.set_timesteps(STEPS)
    tokens = torch.tensor([encode_words(text, max_tokens) for text in [*texts, *[""] * len(texts)]], device=device)
    channels = basis.up.shape[0]
    latents = torch.randn(len(texts), channels, 8, 8, generator=torch.Generator().manual_seed(seed)).to(device)
    for time in scheduler.timesteps:
        velocity = model(latents.repeat(2, 1, 1, 1), time.repeat(2 * len(texts)).to(device), tokens)
        said, unsaid = velocity.chunk(2)
        latents = scheduler.step(unsaid + GUIDANCE * (said - unsaid), time, latents, return_dict=False)[0]
    return to_pictures(basis.decode(latents.cpu()))
