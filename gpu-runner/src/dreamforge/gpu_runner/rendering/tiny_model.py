"""A complete Stable Diffusion pipeline of a few megabytes, built here from configuration alone.

    python -m dreamforge.gpu_runner.rendering tiny_model FOLDER

Every part is the real one (text encoder, tokenizer, U-Net, autoencoder, scheduler), with random weights from
a fixed seed: it runs the same code as a large model, in milliseconds, without a download. What it renders is
noise that follows its prompt. Nothing that loads the folder can tell the difference.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.gpu_runner.rendering.pipeline import Pipeline, part
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, model_digest

#: Changes with any change below, so that a cache never serves an older recipe of the model.
TINY_NAME = "tiny-sd-v1"
WEIGHTS_SEED = 20_260_101
#: One character is one token here, so this is also the longest prompt that has an effect, less two.
MAX_TOKENS = 256
TEXT_WIDTH = 64
LATENT_CHANNELS = 4
#: 8 latents a side, 64 pixels, is what the pipeline renders when no size is given.
SAMPLE_SIZE = 8


def ensure_tiny(cache_folder: Path) -> Path:
    """The model's folder inside `cache_folder`, built if it is not there yet (about a second)."""
    return ensure_folder(cache_folder, TINY_NAME, build_pipeline, tiny_descriptor)


def ensure_folder(
    cache_folder: Path, name: str, build: Callable[[], Pipeline], describe: Callable[[str], ModelDescriptor]
) -> Path:
    """A model's folder `name` inside `cache_folder`, built and described (from its digest) if it is not there yet.

    Built beside its place and then renamed, so a folder of that name is always whole; of two processes
    that build at once, one wins and both get the same bytes.
    """
    final = cache_folder / name
    if final.is_dir():
        return final
    cache_folder.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache_folder))
    try:
        build().save_pretrained(str(building), safe_serialization=True)
        descriptor = describe(model_digest(building))
        (building / DESCRIPTOR_NAME).write_text(descriptor.model_dump_json(indent=2))
        _flush(building)
        _rename(building, final)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return final


def build_pipeline() -> Pipeline:
    """The pipeline in memory; the same weights each time, and the caller's random state left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHTS_SEED)
        pipeline: Pipeline = part(
            "StableDiffusionPipeline",
            vae=autoencoder(),
            text_encoder=clip_text_encoder(),
            tokenizer=clip_tokenizer(),
            unet=unet(),
            scheduler=ddim_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    return pipeline


def tiny_descriptor(digest: str) -> ModelDescriptor:
    """What the registry should know of it.

    Source of the memory coefficients: counted from the widths below for float32, doubled. Decoding holds about
    four tensors of 32 channels at full size (512 bytes a pixel); a step holds ten of 64 channels and one
    attention matrix of 4 heads over at most 32 x 32 latents (19 KiB a latent).
    """
    return ModelDescriptor(
        model_id="tiny",
        title="Tiny Stable Diffusion with random weights: renders noise, for trying every part",
        family="stable-diffusion",
        licence="none needed: the weights are random",
        digest=digest,
        size_multiple_px=8,
        side_px_min=32,
        side_px_max=256,
        vram=VramProfile(
            resident_bytes=5_000_000,
            denoise_bytes_per_latent=2 * 19 * 1024,
            decode_bytes_per_px=2 * 512,
            overhead_bytes=64 * 2**20,
        ),
        presets=(
            Preset(name="standard", title="Standard", width_px=64, height_px=64, steps=20, guidance_scale=5.0),
            Preset(name="draft", title="Draft", width_px=64, height_px=64, steps=6, guidance_scale=5.0),
            Preset(name="large", title="Large", width_px=256, height_px=256, steps=20, guidance_scale=5.0),
        ),
    )


def autoencoder(**configuration: Any) -> Any:  # Any: see `part`
    """A small autoencoder; `configuration` is laid over its own."""
    # Four levels halve three times: 8 pixels a latent, as in every Stable Diffusion.
    small: dict[str, Any] = {  # Any: as `configuration`
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": LATENT_CHANNELS,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (16, 16, 32, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": SAMPLE_SIZE * 8,
    }
    return part("AutoencoderKL", **small | configuration)


def unet(**configuration: Any) -> Any:  # Any: see `part`
    """A small U-Net; `configuration` is laid over its own."""
    small: dict[str, Any] = {  # Any: as `configuration`
        "sample_size": SAMPLE_SIZE,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 4,  # here diffusers means the number of heads
    }
    return part("UNet2DConditionModel", **small | configuration)


def clip_text_encoder() -> CLIPTextModel:
    """A small text encoder, `TEXT_WIDTH` wide."""
    return CLIPTextModel(clip_text_configuration())


def clip_text_configuration() -> CLIPTextConfig:
    """Two layers over one token a byte."""
    tokens = clip_vocabulary()
    return CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokens["<|startoftext|>"],
        eos_token_id=tokens["<|endoftext|>"],
        pad_token_id=tokens["<|endoftext|>"],
    )


def clip_tokenizer() -> CLIPTokenizer:
    """One token a byte."""
    return CLIPTokenizer(vocab=clip_vocabulary(), merges=[], model_max_length=MAX_TOKENS)


def ddim_scheduler(**configuration: Any) -> Any:  # Any: see `part`
    """Stable Diffusion's own noise schedule (its scheduler_config.json)."""
    return part(
        "DDIMScheduler",
        **configuration,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def clip_vocabulary() -> dict[str, int]:
    """One token for each byte, as byte-level BPE spells them, inside a word and at its end."""
    symbols = byte_symbols()
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(tokens)}


def byte_symbols() -> list[str]:
    """Byte-level BPE's alphabet: printable bytes as themselves, the others moved up past 255."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(moved)) for byte in range(256)]


def _flush(folder: Path) -> None:
    """Have the files on disk before the name that promises them is."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _rename(building: Path, final: Path) -> None:
    try:
        building.rename(final)
    except OSError:
        # Another process was first; a folder that is not empty cannot be renamed over.
        if not final.is_dir():
            raise


def main() -> int:
    """Build the model into a folder and print where it is."""
    parser = argparse.ArgumentParser(
        prog="dreamforge.gpu_runner.rendering tiny_model", description="Build the tiny model."
    )
    parser.add_argument("folder", type=Path, help="cache folder; the model becomes a folder inside it")
    options = parser.parse_args()
    print(ensure_tiny(options.folder))  # noqa: T201 - the answer of this command
    return 0
