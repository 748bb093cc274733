"""Parts that tiny pipelines of several families have: text encoders, an autoencoder, the schedule of a flow."""

from typing import Any

from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5Tokenizer

from dreamforge.gpu_runner.rendering.pipeline import part
from dreamforge.gpu_runner.rendering.tiny_model import TEXT_WIDTH, autoencoder, byte_symbols, clip_text_configuration

#: Two CLIP encoders side by side, which is what SDXL and SD3 read.
WIDE_TEXT = 2 * TEXT_WIDTH
#: Channels of an SD3 or FLUX latent (their vae/config.json).
WIDE_LATENT_CHANNELS = 16
HEADS, HEAD_WIDTH = 4, 16
#: Letters come from a fixed alphabet; T5's other tokens stand before it.
T5_FIRST_TOKENS = ("<pad>", "</s>", "<unk>")
T5_TOKENS_MAX = 512


def flow_scheduler(**configuration: Any) -> Any:  # Any: see `part`
    """Along a flow."""
    return part("FlowMatchEulerDiscreteScheduler", **configuration)


def projecting_encoder() -> CLIPTextModelWithProjection:
    """CLIP with a pooled state as wide as its others."""
    configuration = clip_text_configuration()
    configuration.projection_dim = TEXT_WIDTH
    return CLIPTextModelWithProjection(configuration)


def wide_autoencoder() -> Any:  # Any: see `part`
    """An autoencoder of `WIDE_LATENT_CHANNELS`."""
    # Scale and shift are SD3's (its vae/config.json); both families leave the quantising convolutions out.
    return autoencoder(
        latent_channels=WIDE_LATENT_CHANNELS,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.5305,
        shift_factor=0.0609,
    )


def t5() -> T5EncoderModel:
    """One layer."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(_t5_vocabulary()),
            d_model=WIDE_TEXT,
            d_kv=HEAD_WIDTH,
            d_ff=2 * WIDE_TEXT,
            num_layers=1,
            num_heads=HEADS,
            feed_forward_proj="gated-gelu",
        )
    )


def t5_tokenizer() -> T5Tokenizer:
    """One token a symbol."""
    return T5Tokenizer(vocab=_t5_vocabulary(), extra_ids=0, model_max_length=T5_TOKENS_MAX)


def _t5_vocabulary() -> list[tuple[str, float]]:
    """One token for each symbol of the byte alphabet, equally likely, and one for the space before a word."""
    return [*((token, 0.0) for token in T5_FIRST_TOKENS), *((token, -2.0) for token in ("▁", *byte_symbols()))]
