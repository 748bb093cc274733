"""The parts of the model, all of stock classes, built from a configuration with random weights.

`Any` stands for a diffusers or transformers object throughout: neither library is typed (see `part`).
"""

from typing import Any

import torch
from settings import Settings
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast
from words import COLOURS, NUMBERS, PLACES, PLURALS, RELATIONS, SHAPES, SIZES, SKIES

from dreamforge.gpu_runner.rendering.pipeline import part

BEGIN, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|unknown|>"
#: Words of the grammar that are in none of the lists, and a few that mean nothing here and are ignored.
OTHER_WORDS = (
    *("a", "an", "the", "on", "of", "and", "in", "at", "background", "with", "picture", "image", "photo", "drawing"),
    *("sun", "over", "sea", "mountains", "moon", "stars", "house", "tree", "sky", "night", "sunset"),
)


def vocabulary() -> dict[str, int]:
    """Whole words, one token each: `circle` is learned as one thing and an unknown word is one token too."""
    phrases = [*SHAPES, *PLURALS.values(), *COLOURS, *SIZES, *PLACES, *NUMBERS.values(), *RELATIONS, *SKIES]
    words = sorted({word for phrase in phrases for word in phrase.split()} | {*OTHER_WORDS})
    return {word: number for number, word in enumerate([END, BEGIN, UNKNOWN, *words])}


def build_tokenizer(max_tokens: int) -> Any:
    """A word-level tokenizer; punctuation separates words and is otherwise ignored, so is case."""
    backend = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    # Isolated punctuation would be unknown words; removing it keeps "a red circle, small" clean.
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation("removed")]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, vocabulary()[BEGIN]), (END, vocabulary()[END])]
    )
    wrapped: Any = PreTrainedTokenizerFast
    return wrapped(
        tokenizer_object=backend,
        bos_token=BEGIN,
        eos_token=END,
        unk_token=UNKNOWN,
        pad_token=END,
        model_max_length=max_tokens,
        clean_up_tokenization_spaces=False,
    )


def build_text_encoder(settings: Settings) -> Any:
    """A small CLIP text encoder, trained together with the denoiser."""
    words = vocabulary()
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=settings.text_width,
            intermediate_size=4 * settings.text_width,
            num_hidden_layers=settings.text_layers,
            num_attention_heads=settings.text_heads,
            max_position_embeddings=settings.max_tokens,
            bos_token_id=words[BEGIN],
            eos_token_id=words[END],
            pad_token_id=words[END],
        )
    )


def build_denoiser(settings: Settings) -> Any:
    """A U-Net that sees the text twice: in its attention, and pooled into every block's scale and shift.

    The pooled path (`addition_embed_type="text"`) is what learns a shape's name within minutes; attention then
    binds words to places. Attention is left out where `settings.attention` says so: it is the dearest part.
    """
    seeing = settings.attention
    return part(
        "UNet2DConditionModel",
        sample_size=8,
        in_channels=settings.latent_channels,
        out_channels=settings.latent_channels,
        down_block_types=tuple("SimpleCrossAttnDownBlock2D" if sees else "DownBlock2D" for sees in seeing),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=tuple("SimpleCrossAttnUpBlock2D" if sees else "UpBlock2D" for sees in reversed(seeing)),
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        attention_head_dim=settings.head_width,
        cross_attention_dim=settings.text_width,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
    )


def build_autoencoder(settings: Settings) -> Any:
    """Eight pixels a latent, all depth at low resolution: at 64 x 64 a picture decodes in milliseconds."""
    return part(
        "AutoencoderTiny",
        encoder_block_out_channels=(settings.autoencoder_width,) * 4,
        decoder_block_out_channels=(settings.autoencoder_width,) * 4,
        num_encoder_blocks=(0, 1, 1, 2),
        num_decoder_blocks=(3, 2, 1, 0),
        latent_channels=settings.latent_channels,
        scaling_factor=4.0,
    )


def build_scheduler() -> Any:
    """Cosine noise that ends in nothing but noise, so that the first step decides from the text alone."""
    return part(
        "DDIMScheduler",
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # has no effect on trailing steps; diffusers warns of anything else
    )


def signal_and_noise(scheduler: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Share of picture and of noise at each of the 1000 training steps; squares add up to one."""
    kept = scheduler.alphas_cumprod
    return kept.sqrt(), (1 - kept).sqrt()
