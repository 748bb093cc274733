"""Tiny language models with their tokenizers, random weights: what the newer families read prompts with.

One token a byte, as in the tiny CLIP.
"""

from typing import Any

from transformers import (
    BatchFeature,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen2VLImageProcessorPil,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

from dreamforge.gpu_runner.rendering.tiny_model import TEXT_WIDTH, byte_symbols

#: The marks of Qwen's conversations and pictures; the first one also pads.
MARKS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
TOKENS = {token: number for number, token in enumerate((*byte_symbols(), *MARKS))}
END = TOKENS[MARKS[0]]
TOKENS_MAX = 4096
#: A conversation as Qwen writes it; the content is a text, or pieces of which some are texts.
CONVERSATION = (
    "{% for each in messages %}<|im_start|>{{ each['role'] }}\n"
    "{% if each['content'] is string %}{{ each['content'] }}"
    "{% else %}{% for piece in each['content'] %}{{ piece.get('text', '') }}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IMAGE_MARK = "<|image_pad|>"
HEADS = 4
#: Of a model of which FLUX.2 stacks the states of three layers.
NARROW = 32
GEMMA_MARKS = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")


def layers(count: int = 2, width: int = TEXT_WIDTH) -> dict[str, Any]:  # Any: values of any configuration
    """The configuration that all of these share."""
    return {
        "vocab_size": len(TOKENS),
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": count,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS // 2,
        "head_dim": width // HEADS,
        "max_position_embeddings": TOKENS_MAX,
        "bos_token_id": END,
        "eos_token_id": END,
        "pad_token_id": END,
    }


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Qwen's, which also stands for Llama's."""
    return Qwen2Tokenizer(
        vocab=TOKENS,
        merges=[],
        model_max_length=TOKENS_MAX,
        extra_special_tokens=list(MARKS[1:]),
        chat_template=CONVERSATION,
    )


def qwen_vision() -> Qwen2_5_VLForConditionalGeneration:
    """Reads the prompts of Qwen-Image, and the pictures of its editing models."""
    text = layers() | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}
    del text["head_dim"]
    vision = {
        "depth": 1,
        "hidden_size": NARROW,
        "intermediate_size": NARROW,
        "num_heads": 2,
        "out_hidden_size": TEXT_WIDTH,
        "fullatt_block_indexes": [0],
        "window_size": 112,
        "patch_size": 14,
    }
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=TOKENS["<|image_pad|>"],
            video_token_id=TOKENS["<|video_pad|>"],
            vision_start_token_id=TOKENS["<|vision_start|>"],
            vision_end_token_id=TOKENS["<|vision_end|>"],
        )
    )


class PromptsAndImages:
    """Stands for Qwen's processor, whose class needs torchvision: the same numbers for prompts and images."""

    def __init__(self) -> None:
        self.tokenizer, self._images = qwen_tokenizer(), Qwen2VLImageProcessorPil()

    def __call__(self, *, text: list[str], images: Any, padding: bool, return_tensors: str) -> Any:  # Any: untyped
        """Tokens, with as many marks of an image as it has tokens; pixels and how they are cut into patches."""
        seen = self._images(images=images, return_tensors=return_tensors)
        counts = [int(grid.prod()) // self._images.merge_size**2 for grid in seen["image_grid_thw"]]
        pieces = text[0].split(IMAGE_MARK)
        whole = "".join(f"{piece}{IMAGE_MARK * count}" for piece, count in zip(pieces, (*counts, 0), strict=True))
        return BatchFeature({**self.tokenizer([whole], padding=padding, return_tensors=return_tensors), **seen})


def qwen() -> Qwen3Model:
    """Reads the prompts of Z-Image."""
    return Qwen3Model(Qwen3Config(**layers()))


def deep_qwen() -> Qwen3ForCausalLM:
    """Reads the prompts of FLUX.2 [klein], which takes the states of its layers 9, 18 and 27."""
    return Qwen3ForCausalLM(Qwen3Config(**layers(27, NARROW)))


def deep_mistral() -> Mistral3ForConditionalGeneration:
    """Reads the prompts of FLUX.2, which takes the states of its layers 10, 20 and 30."""
    vision = {
        "model_type": "pixtral",
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "image_size": 28,
        "patch_size": 14,
    }
    text = layers(30, NARROW) | {"model_type": "mistral"}
    return Mistral3ForConditionalGeneration(
        Mistral3Config(text_config=text, vision_config=vision, image_token_index=TOKENS["<|image_pad|>"])
    )


def gemma() -> Gemma2Model:
    """Reads the prompts of Sana."""
    marks = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    return Gemma2Model(Gemma2Config(**layers() | marks, query_pre_attn_scalar=TEXT_WIDTH // HEADS))


def gemma_tokenizer() -> GemmaTokenizer:
    """A byte is spelled by its number, as where Gemma has no token."""
    tokens = (*GEMMA_MARKS, *(f"<0x{byte:02X}>" for byte in range(256)))
    return GemmaTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=TOKENS_MAX
    )


def llama() -> LlamaForCausalLM:
    """The fourth reader of HiDream's prompts."""
    return LlamaForCausalLM(LlamaConfig(**layers()))
