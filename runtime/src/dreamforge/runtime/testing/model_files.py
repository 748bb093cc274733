"""Model files as people have them, of zeros and a few kilobytes: for tests that read headers and configurations."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
#: Bytes of one number.
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "I64": 8}
UNET, VAE, TEXT = "unet", "vae", "text_encoder"
DIFFUSERS_WEIGHTS, TRANSFORMERS_WEIGHTS = "diffusion_pytorch_model", "model"
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None],
    "requires_safety_checker": False,
}
CONFIGURATIONS: Mapping[str, dict[str, Any]] = {  # Any: open JSON objects
    UNET: {"_class_name": "UNet2DConditionModel", "in_channels": 4, "cross_attention_dim": 768, "sample_size": 64},
    VAE: {"_class_name": "AutoencoderKL", "latent_channels": 4, "block_out_channels": [8, 8, 8, 8]},
    TEXT: {"model_type": "clip_text_model", "num_hidden_layers": 12},
}
WEIGHTS: Mapping[str, Shapes] = {
    UNET: {"conv_in.weight": (8, 4, 3, 3), "conv_out.weight": (4, 8, 3, 3)},
    VAE: {"decoder.conv_in.weight": (8, 4, 3, 3)},
    TEXT: {"text_model.embeddings.token_embedding.weight": (16, 768)},
}
#: A checkpoint in one file: each part by its beginning in the first releases.
CHECKPOINT: Shapes = {
    "model.diffusion_model.input_blocks.0.0.weight": (8, 4, 3, 3),
    "first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3),
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (16, 768),
}
#: Two layers of a LoRA for Stable Diffusion, as kohya's trainers name them.
LORA: Shapes = {
    f"lora_unet_{layer}.{end}": shape
    for layer, width in (("mid_block_attentions_0_attn2_to_k", 768), ("mid_block_attentions_0_attn1_to_q", 320))
    for end, shape in (("lora_down.weight", (4, width)), ("lora_up.weight", (320, 4)), ("alpha", ()))
}

#: An IP-Adapter for Stable Diffusion that reads patches, without the layers between.
IP_ADAPTER: Shapes = {
    "image_proj.latents": (1, 16, 768),
    "image_proj.proj_in.weight": (768, 1280),
    "ip_adapter.1.to_k_ip.weight": (320, 768),
    "ip_adapter.1.to_v_ip.weight": (320, 768),
}


def safetensors_bytes(shapes: Shapes, dtype: str = "F16", metadata: Mapping[str, str] | None = None) -> bytes:
    """A complete safetensors file with tensors of these shapes, all zero."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}  # Any: as in the file
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * DTYPE_BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)


def write_safetensors(
    path: Path, shapes: Shapes, dtype: str = "F16", metadata: Mapping[str, str] | None = None
) -> Path:
    """Such a file; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors_bytes(shapes, dtype, metadata))
    return path


def write_json(path: Path, value: object) -> Path:
    """A file of JSON; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def weights_path(folder: Path, part: str, variant: str = "") -> Path:
    """Where the weights of a part are."""
    stem = TRANSFORMERS_WEIGHTS if part == TEXT else DIFFUSERS_WEIGHTS
    return folder / part / f"{stem}{variant and '.' + variant}.safetensors"


def write_pipeline(folder: Path, *, variants: Mapping[str, str] | None = None, weights: bool = True) -> Path:
    """A Stable Diffusion as diffusers saves it; `variants` of its parts, plain ones where it names none."""
    write_json(folder / "model_index.json", INDEX)
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDIMScheduler"})
    write_json(folder / "tokenizer" / "vocab.json", {})
    (folder / "tokenizer" / "merges.txt").write_text("")
    for part, configuration in CONFIGURATIONS.items():
        write_json(folder / part / "config.json", configuration)
        if weights:
            write_safetensors(weights_path(folder, part, (variants or {}).get(part, "")), WEIGHTS[part])
    return folder
