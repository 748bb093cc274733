"""The layers of a pipeline by the names that kohya's trainers and LyCORIS have for them. Only in the child."""

from collections.abc import Iterator
from typing import Any

from torch.nn import Conv2d, Linear, Module

from dreamforge.gpu_runner.rendering.sgm_names import sgm_names

#: How names begin, by the part of the pipeline. Kohya's trainers call every denoiser a U-Net.
PREFIXES = {
    "unet": ("lora_unet_", "lycoris_"),
    "transformer": ("lora_unet_", "lora_transformer_", "lycoris_"),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
}
#: peft puts a layer that it adds to below one of its own.
BELOW_PEFT = ".base_layer"
#: A level of CLIP's names that newer classes have lost.
LOST_LEVEL = "text_model."


def layers_by_name(pipeline: Any) -> dict[str, tuple[str, Linear | Conv2d]]:  # Any: parts differ by family
    """The part and the layer by each name that a file can have for it."""
    return {
        prefix + name.replace(".", "_"): (part, layer)
        for part, prefixes in PREFIXES.items()
        if isinstance(module := pipeline.components.get(part), Module)
        for name, layer in _named(module, part)
        for prefix in prefixes
    }


def _named(module: Any, part: str) -> Iterator[tuple[str, Linear | Conv2d]]:  # Any: as above
    layers = {
        name.replace(BELOW_PEFT, ""): layer
        for name, layer in module.named_modules()
        if isinstance(layer, Linear | Conv2d)
    }
    others = sgm_names(layers, module.config.layers_per_block) if part == "unet" else {}
    for name, layer in layers.items():
        yield name, layer
        if name in others:
            yield others[name], layer
        if part.startswith("text_encoder"):
            yield LOST_LEVEL + name.removeprefix(LOST_LEVEL), layer
