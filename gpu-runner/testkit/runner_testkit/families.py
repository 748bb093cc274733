"""A tiny complete pipeline of each family that we paint with: the code paths of the large ones, in megabytes.

Random weights from a fixed seed, built from configuration alone; see `tiny` for the one that runners serve.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset
from dreamforge.contracts.models.family_defaults import FAMILY_DEFAULTS
from dreamforge.gpu_runner.rendering.pipeline import Pipeline, part
from dreamforge.gpu_runner.rendering.tiny_model import (
    TEXT_WIDTH,
    WEIGHTS_SEED,
    autoencoder,
    build_pipeline,
    clip_text_encoder,
    clip_tokenizer,
    ddim_scheduler,
    ensure_folder,
    ensure_tiny,
    tiny_descriptor,
    unet,
)
from runner_testkit import flow_families, video_families
from runner_testkit.parts import (
    HEAD_WIDTH,
    HEADS,
    WIDE_LATENT_CHANNELS,
    WIDE_TEXT,
    flow_scheduler,
    projecting_encoder,
    t5,
    t5_tokenizer,
    wide_autoencoder,
)

#: Numbers of an SDXL size condition: original size, crop, target size.
SIZE_NUMBERS = 6
SIZE_EMBEDDING = 8
#: Of a tiny video: what each family can have.
FRAMES = 9


def stable_diffusion_2() -> Pipeline:
    """Stable Diffusion 2: predicts velocity, projects linearly."""
    return _stable_diffusion_like(
        "StableDiffusionPipeline",
        unet=unet(use_linear_projection=True),
        scheduler=ddim_scheduler(prediction_type="v_prediction"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(**levels: Any) -> Pipeline:  # Any: see `part`
    """SDXL: two text encoders and a size condition; `levels` are laid over the configuration of its U-Net."""
    return _stable_diffusion_like(
        "StableDiffusionXLPipeline",
        text_encoder_2=projecting_encoder(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(
            cross_attention_dim=WIDE_TEXT,
            addition_embed_type="text_time",
            addition_time_embed_dim=SIZE_EMBEDDING,
            projection_class_embeddings_input_dim=TEXT_WIDTH + SIZE_NUMBERS * SIZE_EMBEDDING,
            **levels,
        ),
        scheduler=part(
            "EulerDiscreteScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        add_watermarker=False,
    )


def sdxl_of_three_levels() -> Pipeline:
    """SDXL with the levels that its own U-Net has, of which the first reads no text (its unet/config.json)."""
    return sdxl(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 64),
    )


def sd3() -> Pipeline:
    """Stable Diffusion 3: three text encoders, a transformer that follows a flow."""
    pipeline: Pipeline = part(
        "StableDiffusion3Pipeline",
        transformer=part(
            "SD3Transformer2DModel",
            sample_size=8,
            in_channels=WIDE_LATENT_CHANNELS,
            out_channels=WIDE_LATENT_CHANNELS,
            num_layers=2,
            attention_head_dim=HEAD_WIDTH,
            num_attention_heads=HEADS,
            joint_attention_dim=WIDE_TEXT,
            caption_projection_dim=HEADS * HEAD_WIDTH,
            pooled_projection_dim=WIDE_TEXT,
            pos_embed_max_size=32,
        ),
        scheduler=flow_scheduler(shift=3.0),
        vae=wide_autoencoder(),
        text_encoder=projecting_encoder(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=projecting_encoder(),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(),
        tokenizer_3=t5_tokenizer(),
    )
    return pipeline


def flux() -> Pipeline:
    """FLUX: a transformer with distilled guidance, over packed latents."""
    return _flux_like("FluxPipeline")


def flux_kontext() -> Pipeline:
    """FLUX Kontext: its parts are those of FLUX."""
    return _flux_like("FluxKontextPipeline")


def _flux_like(class_name: str) -> Pipeline:
    pipeline: Pipeline = part(
        class_name,
        transformer=part(
            "FluxTransformer2DModel",
            in_channels=4 * WIDE_LATENT_CHANNELS,  # a square of 2 x 2 latents is one token
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=HEAD_WIDTH,
            num_attention_heads=HEADS,
            joint_attention_dim=WIDE_TEXT,
            pooled_projection_dim=TEXT_WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        ),
        scheduler=flow_scheduler(shift=3.0, use_dynamic_shifting=True),
        vae=wide_autoencoder(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
    )
    return pipeline


#: A short name of each family, to what builds it.
FAMILIES: Mapping[str, Callable[[], Pipeline]] = {
    "stable-diffusion": build_pipeline,
    "stable-diffusion-2": stable_diffusion_2,
    "sdxl": sdxl,
    "sdxl-three-levels": sdxl_of_three_levels,
    "sd3": sd3,
    "flux": flux,
    "flux-2": flow_families.flux_2,
    "flux-2-klein": flow_families.flux_2_klein,
    "flux-kontext": flux_kontext,
    "qwen-image": flow_families.qwen_image,
    "qwen-image-edit": flow_families.qwen_image_edit,
    "qwen-image-edit-plus": flow_families.qwen_image_edit_plus,
    "z-image": flow_families.z_image,
    "chroma": flow_families.chroma,
    "hidream": flow_families.hidream,
    "sana": flow_families.sana,
    "sana-sprint": flow_families.sana_sprint,
    "wan": video_families.wan,
    "wan-2-2": video_families.wan_2_2,
    "wan-i2v": video_families.wan_i2v,
    "wan-ti2v": video_families.wan_ti2v,
    "ltx": video_families.ltx,
}
#: What descriptors call a family, where that is longer; see `contracts.catalog.FAMILIES`.
DESCRIPTOR_FAMILIES = {
    "sdxl": "stable-diffusion-xl",
    "sdxl-three-levels": "stable-diffusion-xl",
    "sd3": "stable-diffusion-3",
    "wan-2-2": "wan",
}


def build_family(family: str) -> Pipeline:
    """The pipeline of a family in memory; the same weights each time. Errors: KeyError."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHTS_SEED)
        return FAMILIES[family]()


def ensure_family(cache_folder: Path, family: str) -> Path:
    """The folder of a family's tiny model inside `cache_folder`, built if it is not there yet."""
    if family == "stable-diffusion":
        return ensure_tiny(cache_folder)
    return ensure_folder(
        cache_folder,
        f"tiny-{family}-v1",
        lambda: build_family(family),
        lambda digest: family_descriptor(family, digest),
    )


def family_descriptor(family: str, digest: str) -> ModelDescriptor:
    """What the registry should know of it; memory as the tiny Stable Diffusion, whose layers these share."""
    guidance_scale = 3.5 if family == "flux" else 5.0
    described_as = DESCRIPTOR_FAMILIES.get(family, family)
    return tiny_descriptor(digest).model_copy(
        update={
            "model_id": f"tiny-{family}",
            "title": f"Tiny {family} with random weights: renders noise, for trying every part",
            "family": described_as,
            "size_multiple_px": FAMILY_DEFAULTS[described_as].size_multiple_px,
            "presets": (
                Preset(
                    name="standard",
                    title="Standard",
                    width_px=64,
                    height_px=64,
                    steps=4,
                    guidance_scale=guidance_scale,
                    frames=FRAMES if FAMILY_DEFAULTS[described_as].frames else None,
                    frames_per_second=FAMILY_DEFAULTS[described_as].frames_per_second,
                ),
            ),
        }
    )


def _stable_diffusion_like(class_name: str, **parts: Any) -> Pipeline:  # Any: see `part`
    pipeline: Pipeline = part(
        class_name, vae=autoencoder(), text_encoder=clip_text_encoder(), tokenizer=clip_tokenizer(), **parts
    )
    return pipeline
