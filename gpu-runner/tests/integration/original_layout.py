"""A pipeline's weights as one file in the layout of the first Stable Diffusion releases, for tests.

That is how checkpoints are passed around. The names are those that diffusers' own `from_single_file` reads; this is
the way back, for Stable Diffusion only.
"""

import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Names = tuple[tuple[str, str], ...]
RESNET: Names = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
)
ENDS: Names = (
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
    ("mid_block.resnets.0", "middle_block.0"),
    ("mid_block.attentions.0", "middle_block.1"),
    ("mid_block.resnets.1", "middle_block.2"),
)
DECODER_ATTENTION: Names = (
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
)
BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


def save_as_one_file(pipeline: Any, path: Path) -> None:  # Any: a diffusers pipeline has no types
    """Write every weight of a Stable Diffusion pipeline into one safetensors file."""
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in pipeline.unet.state_dict().items():
        tensors[f"model.diffusion_model.{_unet(name, pipeline.unet)}"] = tensor
    levels = len(pipeline.vae.config.block_out_channels)
    for name, tensor in pipeline.vae.state_dict().items():
        tensors[f"first_stage_model.{_vae(name, levels)}"] = _as_convolution(name, tensor)
    for name, tensor in pipeline.text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(path))


def save_vae_as_one_file(vae: Any, path: Path) -> None:  # Any: see above
    """Write the weights of a VAE alone, without the prefix that they have in a whole checkpoint."""
    levels = len(vae.config.block_out_channels)
    tensors = {_vae(name, levels): _as_convolution(name, tensor) for name, tensor in vae.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(path))


def _unet(name: str, unet: Any) -> str:  # Any: see above
    blocks_a_level = unet.config.layers_per_block + 1
    for ours, theirs in ENDS:
        if name.startswith(f"{ours}."):
            renamed = theirs + name.removeprefix(ours)
            return _resnet(name, renamed) if "resnets" in ours else renamed
    side, level, kind, number, rest = _block(name)
    first = level * blocks_a_level
    match side, kind:
        case "down", "downsamplers":
            return f"input_blocks.{first + blocks_a_level}.0.op.{rest.removeprefix('conv.')}"
        case "up", "upsamplers":
            attends = hasattr(unet.up_blocks[level], "attentions")
            return f"output_blocks.{first + blocks_a_level - 1}.{2 if attends else 1}.{rest}"
    place = f"input_blocks.{1 + first + number}" if side == "down" else f"output_blocks.{first + number}"
    return _resnet(name, f"{place}.0.{rest}") if kind == "resnets" else f"{place}.1.{rest}"


def _resnet(name: str, renamed: str) -> str:
    for ours, theirs in RESNET:
        if f".{ours}." in name:
            return renamed.replace(f".{ours}.", f".{theirs}.")
    raise KeyError(name)


def _vae(name: str, levels: int) -> str:
    half, _, rest = name.partition(".")
    if half not in ("encoder", "decoder"):
        return name
    rest = rest.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    rest = rest.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
    if rest.startswith("mid_block.attentions.0."):
        for ours, theirs in DECODER_ATTENTION:
            rest = rest.replace(f"mid_block.attentions.0.{ours}.", f"mid.attn_1.{theirs}.")
        return f"{half}.{rest}"
    if BLOCK.fullmatch(rest) is None:
        return f"{half}.{rest}"
    side, level, kind, number, inner = _block(rest)
    place = level if side == "down" else levels - 1 - level
    return f"{half}.{side}.{place}." + (f"block.{number}.{inner}" if kind == "resnets" else f"{side}sample.{inner}")


def _as_convolution(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Attention was written as 1 x 1 convolutions: (out, in) becomes (out, in, 1, 1)."""
    is_linear = "attentions" in name and name.endswith("weight") and tensor.ndim == 2
    return tensor[:, :, None, None] if is_linear else tensor


def _block(name: str) -> tuple[str, int, str, int, str]:
    found = BLOCK.fullmatch(name)
    if found is None:
        raise KeyError(name)
    side, level, kind, number, rest = found.groups()
    return side, int(level), kind, int(number), rest
