"""Writes a trained model as a diffusers folder of stock classes, with its descriptor and its card."""

from pathlib import Path
from typing import Any

import torch
import yaml
from denoiser import TextToLatents
from model import build_scheduler, build_tokenizer
from settings import Settings

from dreamforge.contracts.models.descriptor import (
    ModelDescriptor,
    ModelSource,
    Parameters,
    Preset,
    SamplerName,
    VramProfile,
)
from dreamforge.gpu_runner.rendering.pipeline import part
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, survey

#: What the pipeline paints when no size is given: 8 latents of 8 pixels.
SIDE_PX = 64
#: Those that know a schedule which ends in pure noise.
SAMPLERS: tuple[SamplerName, ...] = ("ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_sde", "euler", "euler_a", "lcm", "unipc")
CATALOG_HEAD = """\
# The small model that this project trained itself; its files lie beside this one. Written by gpu-runner/train.
"""
CARD = Path(__file__).with_name("card.md")


def export(model: TextToLatents, autoencoder: Any, settings: Settings, folder: Path) -> None:
    """Write the folder. Weights are float16: half the size, and no attribute was lost by it."""
    tokenizer = build_tokenizer(settings.max_tokens)
    pipeline = part(
        "StableDiffusionPipeline",
        vae=autoencoder.cpu(),
        text_encoder=model.text_encoder.cpu(),
        tokenizer=tokenizer,  # a word-level tokenizer where CLIP's is expected: same calls, whole words
        unet=model.unet.cpu(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16).save_pretrained(str(folder), safe_serialization=True)
    for name in ("model_index.json", "tokenizer/tokenizer_config.json"):
        # transformers 5 writes its new name for this class, which 4 does not know; both know the old one.
        path = folder / name
        path.write_text(path.read_text().replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"'))
    (folder / "README.md").write_text(CARD.read_text())
    seal(folder)


def seal(folder: Path) -> None:
    """Write the descriptor, and its file beside the folder; again after any other file has changed: it states them."""
    found = survey(folder)
    described = descriptor(found.digest, ModelSource(kind="folder", location=folder.name, files=found.files))
    (folder / DESCRIPTOR_NAME).write_text(described.model_dump_json(indent=2) + "\n")
    entry = described.model_dump(mode="json", exclude_defaults=True)
    folder.with_suffix(".yaml").write_text(CATALOG_HEAD + yaml.safe_dump(entry, sort_keys=False, width=120))


def descriptor(digest: str, source: ModelSource) -> ModelDescriptor:
    """What the registry should know of it.

    Source of the memory coefficients: counted from the widths, float32, doubled. A step holds about ten tensors
    of 256 channels (10 KiB a latent), decoding four of 48 channels at full size (768 bytes a pixel).
    """
    return ModelDescriptor(
        model_id="forge-shapes",
        title="Forge Shapes: coloured shapes and small scenes, trained from scratch by this project",
        family="stable-diffusion",
        licence="Apache-2.0",
        digest=digest,
        size_multiple_px=8,
        side_px_min=SIDE_PX,
        side_px_max=SIDE_PX,
        vram=VramProfile(
            resident_bytes=40_000_000,
            denoise_bytes_per_latent=2 * 10 * 1024,
            decode_bytes_per_px=2 * 768,
            overhead_bytes=64 * 2**20,
        ),
        presets=(
            Preset(name="standard", title="Standard", width_px=64, height_px=64, steps=20, guidance_scale=3.0),
            Preset(name="draft", title="Draft", width_px=64, height_px=64, steps=8, guidance_scale=3.0),
        ),
        # No second pass and no inpainting: it paints one size, and its latents have 16 channels, not 4.
        parameters=Parameters(modes=("text", "image"), samplers=SAMPLERS),
        source=source,
    )
