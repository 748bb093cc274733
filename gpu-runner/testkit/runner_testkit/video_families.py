"""Tiny complete pipelines of the families that render videos: see `families`."""

from typing import Any

from transformers import UMT5Config, UMT5EncoderModel

from dreamforge.gpu_runner.rendering.pipeline import Pipeline, part
from runner_testkit.parts import HEAD_WIDTH, HEADS, WIDE_TEXT, flow_scheduler, t5, t5_tokenizer

#: Of Wan's autoencoders (their vae/config.json): the smaller model's packs squares of 2 x 2 pixels.
LATENT_CHANNELS, SMALLER_LATENT_CHANNELS = 16, 48
#: Four channels say which frames are given.
MASK_CHANNELS = 4
LTX_CHANNELS = 16


def wan() -> Pipeline:
    """Wan 2.x from a prompt."""
    return _wan("WanPipeline", in_channels=LATENT_CHANNELS, vae=_wan_autoencoder())


def wan_2_2() -> Pipeline:
    """Wan 2.2 from a prompt: two transformers, as from an image."""
    return _wan(
        "WanPipeline",
        in_channels=LATENT_CHANNELS,
        vae=_wan_autoencoder(),
        transformer_2=_wan_transformer(LATENT_CHANNELS, LATENT_CHANNELS),
        boundary_ratio=0.875,
    )


def wan_i2v() -> Pipeline:
    """Wan 2.2 from an image: two transformers, one for the noisy steps and one for the others."""
    channels = 2 * LATENT_CHANNELS + MASK_CHANNELS
    return _wan(
        "WanImageToVideoPipeline",
        in_channels=channels,
        vae=_wan_autoencoder(),
        transformer_2=_wan_transformer(channels, LATENT_CHANNELS),
        boundary_ratio=0.9,
    )


def wan_ti2v() -> Pipeline:
    """The smaller Wan 2.2, from a prompt or from an image: each token has a time of its own."""
    vae = _wan_autoencoder(
        z_dim=SMALLER_LATENT_CHANNELS,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[0.0] * SMALLER_LATENT_CHANNELS,
        latents_std=[1.0] * SMALLER_LATENT_CHANNELS,
        is_residual=True,
    )
    return _wan("WanPipeline", in_channels=SMALLER_LATENT_CHANNELS, vae=vae, expand_timesteps=True)


def ltx() -> Pipeline:
    """LTX: deep latents in a row of tokens, an autoencoder that reads the time."""
    pipeline: Pipeline = part(
        "LTXPipeline",
        scheduler=flow_scheduler(use_dynamic_shifting=True, shift_terminal=0.1),
        vae=part(
            "AutoencoderKLLTXVideo",
            latent_channels=LTX_CHANNELS,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, True, False),
            decoder_spatio_temporal_scaling=(True, True, True),
            decoder_inject_noise=(False, False, False, False),
            upsample_residual=(False, False, False),
            upsample_factor=(1, 1, 1),
            timestep_conditioning=True,
        ),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
        transformer=part(
            "LTXVideoTransformer3DModel",
            in_channels=LTX_CHANNELS,
            out_channels=LTX_CHANNELS,
            num_attention_heads=HEADS,
            attention_head_dim=HEAD_WIDTH,
            cross_attention_dim=HEADS * HEAD_WIDTH,
            num_layers=2,
            caption_channels=WIDE_TEXT,
        ),
    )
    return pipeline


def _wan(class_name: str, *, in_channels: int, vae: Any, **others: Any) -> Pipeline:  # Any: see `part`
    pipeline: Pipeline = part(
        class_name,
        scheduler=part(
            "UniPCMultistepScheduler", prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        vae=vae,
        text_encoder=_umt5(),
        tokenizer=t5_tokenizer(),
        transformer=_wan_transformer(in_channels, vae.config.z_dim),
        **others,
    )
    return pipeline


def _wan_autoencoder(**configuration: Any) -> Any:  # Any: see `part`
    usual = {"base_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return part("AutoencoderKLWan", **(usual | configuration))


def _wan_transformer(in_channels: int, out_channels: int) -> Any:  # Any: see `part`
    return part(
        "WanTransformer3DModel",
        in_channels=in_channels,
        out_channels=out_channels,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        text_dim=WIDE_TEXT,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=64,
    )


def _umt5() -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=len(t5_tokenizer()),
            d_model=WIDE_TEXT,
            d_kv=HEAD_WIDTH,
            d_ff=WIDE_TEXT,
            num_layers=1,
            num_heads=HEADS,
        )
    )
