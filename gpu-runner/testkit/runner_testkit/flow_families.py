"""Tiny complete pipelines of the families whose transformers follow a flow, beyond SD3 and FLUX: see `families`."""

from typing import Any

from dreamforge.gpu_runner.rendering.pipeline import Pipeline, part
from dreamforge.gpu_runner.rendering.tiny_model import TEXT_WIDTH, clip_tokenizer
from runner_testkit import language_models
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

#: A square of 2 x 2 latents is one token.
PACKED_CHANNELS = 4 * WIDE_LATENT_CHANNELS
#: How many of a head's numbers turn with time, height and width.
AXES = (4, 6, 6)
DEEP_CHANNELS = 8
DEEP_BLOCKS = ("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock")


def qwen_image() -> Pipeline:
    """Qwen-Image: a vision language model reads the prompt, an autoencoder that was made for video decodes."""
    return _pipeline(
        "QwenImagePipeline",
        scheduler=flow_scheduler(use_dynamic_shifting=True, shift_terminal=0.02),
        vae=_video_autoencoder(),
        text_encoder=language_models.qwen_vision(),
        tokenizer=language_models.qwen_tokenizer(),
        transformer=_qwen_transformer(),
    )


def qwen_image_edit() -> Pipeline:
    """Qwen-Image-Edit: the language model also sees the image."""
    return _qwen_image_editing("QwenImageEditPipeline")


def qwen_image_edit_plus() -> Pipeline:
    """Qwen-Image-Edit from 2509 on: several images."""
    return _qwen_image_editing("QwenImageEditPlusPipeline")


def _qwen_image_editing(class_name: str) -> Pipeline:
    return _pipeline(
        class_name,
        scheduler=flow_scheduler(use_dynamic_shifting=True, shift_terminal=0.02),
        vae=_video_autoencoder(),
        text_encoder=language_models.qwen_vision(),
        tokenizer=language_models.qwen_tokenizer(),
        processor=language_models.PromptsAndImages(),
        transformer=_qwen_transformer(),
    )


def z_image() -> Pipeline:
    """Z-Image, not distilled."""
    return _pipeline(
        "ZImagePipeline",
        scheduler=flow_scheduler(shift=6.0),
        vae=wide_autoencoder(),
        text_encoder=language_models.qwen(),
        tokenizer=language_models.qwen_tokenizer(),
        transformer=part(
            "ZImageTransformer2DModel",
            in_channels=WIDE_LATENT_CHANNELS,
            dim=HEADS * HEAD_WIDTH,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=HEADS,
            n_kv_heads=HEADS,
            cap_feat_dim=TEXT_WIDTH,
            axes_dims=list(AXES),
            axes_lens=[1024, 64, 64],
        ),
    )


def chroma() -> Pipeline:
    """Chroma: FLUX without its distilled guidance."""
    return _pipeline(
        "ChromaPipeline",
        scheduler=flow_scheduler(shift=3.0),
        vae=wide_autoencoder(),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
        transformer=part(
            "ChromaTransformer2DModel",
            in_channels=PACKED_CHANNELS,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=HEAD_WIDTH,
            num_attention_heads=HEADS,
            joint_attention_dim=WIDE_TEXT,
            axes_dims_rope=AXES,
            approximator_hidden_dim=32,
            approximator_layers=1,
        ),
    )


def hidream() -> Pipeline:
    """HiDream: four text encoders, experts."""
    return _pipeline(
        "HiDreamImagePipeline",
        scheduler=flow_scheduler(shift=3.0),
        vae=wide_autoencoder(),
        text_encoder=projecting_encoder(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=projecting_encoder(),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(),
        tokenizer_3=t5_tokenizer(),
        text_encoder_4=language_models.llama(),
        tokenizer_4=language_models.qwen_tokenizer(),
        transformer=part(
            "HiDreamImageTransformer2DModel",
            patch_size=2,
            in_channels=WIDE_LATENT_CHANNELS,
            out_channels=WIDE_LATENT_CHANNELS,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=HEAD_WIDTH,
            num_attention_heads=HEADS // 2,
            caption_channels=[WIDE_TEXT, TEXT_WIDTH],
            text_emb_dim=2 * TEXT_WIDTH,
            num_routed_experts=2,
            num_activated_experts=1,
            axes_dims_rope=AXES,
            max_resolution=(16, 16),
            llama_layers=[0, 1],
        ),
    )


def sana() -> Pipeline:
    """Sana: linear attention over deep latents, of 8 pixels a side here and of 32 in the large one."""
    return _pipeline(
        "SanaPipeline",
        tokenizer=language_models.gemma_tokenizer(),
        text_encoder=language_models.gemma(),
        vae=_deep_autoencoder(),
        transformer=_sana_transformer(),
        scheduler=part(
            "DPMSolverMultistepScheduler", flow_shift=3.0, use_flow_sigmas=True, prediction_type="flow_prediction"
        ),
    )


def sana_sprint() -> Pipeline:
    """Sana-Sprint: a consistency model of one to four steps that reads its guidance."""
    return _pipeline(
        "SanaSprintPipeline",
        tokenizer=language_models.gemma_tokenizer(),
        text_encoder=language_models.gemma(),
        vae=_deep_autoencoder(),
        transformer=_sana_transformer(guidance_embeds=True, qk_norm="rms_norm_across_heads", timestep_scale=1000.0),
        scheduler=part("SCMScheduler"),
    )


def flux_2() -> Pipeline:
    """FLUX.2: a vision language model of many layers, distilled guidance."""
    return _pipeline(
        "Flux2Pipeline",
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=_patched_autoencoder(),
        text_encoder=language_models.deep_mistral(),
        # In the large one it is a processor that also reads images, whose class needs torchvision.
        tokenizer=language_models.qwen_tokenizer(),
        transformer=_flux_2_transformer(guidance_embeds=True),
    )


def flux_2_klein() -> Pipeline:
    """FLUX.2 [klein], distilled to four steps."""
    return _pipeline(
        "Flux2KleinPipeline",
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=_patched_autoencoder(),
        text_encoder=language_models.deep_qwen(),
        tokenizer=language_models.qwen_tokenizer(),
        transformer=_flux_2_transformer(guidance_embeds=False),
        is_distilled=True,
    )


def _pipeline(class_name: str, **parts: Any) -> Pipeline:  # Any: see `part`
    pipeline: Pipeline = part(class_name, **parts)
    return pipeline


def _qwen_transformer() -> Any:  # Any: see `part`
    return part(
        "QwenImageTransformer2DModel",
        in_channels=PACKED_CHANNELS,
        out_channels=WIDE_LATENT_CHANNELS,
        num_layers=2,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=HEADS,
        joint_attention_dim=TEXT_WIDTH,
        axes_dims_rope=AXES,
    )


def _video_autoencoder() -> Any:  # Any: see `part`
    return part("AutoencoderKLQwenImage", base_dim=12, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


def _deep_autoencoder() -> Any:  # Any: see `part`
    return part(
        "AutoencoderDC",
        latent_channels=DEEP_CHANNELS,
        attention_head_dim=4,
        encoder_block_types=DEEP_BLOCKS,
        decoder_block_types=DEEP_BLOCKS,
        encoder_block_out_channels=(8, 8, 16, 16),
        decoder_block_out_channels=(8, 8, 16, 16),
        encoder_layers_per_block=(1,) * 4,
        decoder_layers_per_block=(1,) * 4,
        encoder_qkv_multiscales=((), (), (), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,)),
        scaling_factor=0.41407,  # Sana's
    )


def _sana_transformer(**configuration: Any) -> Any:  # Any: see `part`
    return part(
        "SanaTransformer2DModel",
        in_channels=DEEP_CHANNELS,
        out_channels=DEEP_CHANNELS,
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        num_layers=1,
        num_cross_attention_heads=HEADS,
        cross_attention_head_dim=HEAD_WIDTH,
        cross_attention_dim=HEADS * HEAD_WIDTH,
        caption_channels=TEXT_WIDTH,
        **configuration,
    )


def _patched_autoencoder() -> Any:  # Any: see `part`
    return part(
        "AutoencoderKLFlux2",
        block_out_channels=(16, 16, 16, 16),
        layers_per_block=1,
        latent_channels=WIDE_LATENT_CHANNELS,
        norm_num_groups=8,
    )


def _flux_2_transformer(*, guidance_embeds: bool) -> Any:  # Any: see `part`
    return part(
        "Flux2Transformer2DModel",
        in_channels=PACKED_CHANNELS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=2,
        joint_attention_dim=3 * language_models.NARROW,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance_embeds,
    )
