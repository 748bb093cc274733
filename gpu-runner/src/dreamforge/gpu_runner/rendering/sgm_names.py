"""The names that the layers of a U-Net have in Stability's original code, by those that diffusers gives them. Pure.

Trainers write LoRAs for SDXL with the original names. Source: the U-Net of generative-models (sgm): its blocks are
numbered through, each resnet, attention and resampling at its place in them.
"""

import re
from collections.abc import Collection

OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_out": "out.2",
}
RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
MIDDLE = {("resnets", 0): 0, ("attentions", 0): 1, ("resnets", 1): 2}
NAME = re.compile(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


def sgm_names(layers: Collection[str], layers_per_block: int | list[int]) -> dict[str, str]:
    """The original name of each layer, but of those in blocks of unequal length, which the original has not.

    >>> sgm_names(["down_blocks.1.attentions.0.proj_in"], 2)
    {'down_blocks.1.attentions.0.proj_in': 'input_blocks.4.1.proj_in'}
    """
    if not isinstance(layers_per_block, int):
        return {}
    with_attention = {name.split(".attentions")[0] for name in layers if ".attentions" in name}
    found = {name: _original(name, layers_per_block, with_attention) for name in layers}
    return {name: original for name, original in found.items() if original is not None}


def _original(name: str, layers_per_block: int, with_attention: set[str]) -> str | None:
    if (match := NAME.fullmatch(name)) is None:
        return OUTER.get(name)
    side, block, kind, number, rest = match.groups()
    rest = RESNET.get(rest, rest) if kind == "resnets" else rest
    if side is None:
        return f"middle_block.{MIDDLE[kind, int(number)]}.{rest}"
    first = int(block) * (layers_per_block + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + 1 + layers_per_block}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{first + layers_per_block}.{2 if f'up_blocks.{block}' in with_attention else 1}.{rest}"
    place = 0 if kind == "resnets" else 1
    blocks = f"input_blocks.{first + 1 + int(number)}" if side == "down" else f"output_blocks.{first + int(number)}"
    return f"{blocks}.{place}.{rest}"
