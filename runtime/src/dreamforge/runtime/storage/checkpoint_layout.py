"""What one file with all weights of a pipeline is, from the names and shapes of its tensors. Pure.

The layout is that of the first Stable Diffusion releases, in which checkpoints are passed around.
"""

import re
from collections.abc import Iterable, Mapping

from dreamforge.runtime.storage.safetensors_header import TensorInfo

NETWORK = ("model.diffusion_model.",)
AUTOENCODER = ("first_stage_model.", "vae.")
TEXT_ENCODERS = ("cond_stage_model.", "conditioner.embedders.", "text_encoders.")
#: What a checkpoint must hold, by what it is called in an error. All else in it, such as EMA copies, is not loaded.
PARTS = {"denoising network": NETWORK, "autoencoder": AUTOENCODER, "text encoder": TEXT_ENCODERS}
FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"
#: Names beside weights that were stored as small numbers and a factor: without the factor they are other weights.
SCALED = re.compile(
    r"(^|\.)(scaled_fp8|scale_weight|scale_input|weight_scale(_inv)?|input_scale|SCB|absmax|quant_map|comfy_quant)$"
)
#: Names that only one kind of file has, and what that is.
OTHERS = {
    "control_model.": "a ControlNet without its configuration",
    "input_hint_block.": "a ControlNet without its configuration",
    "controlnet_cond_embedding.": "a ControlNet without its configuration",
    "ip_adapter.": "an IP-Adapter",
    "emb_params": "a textual inversion",
    "clip_g": "a textual inversion",
    "motion_modules.": "a motion module",
    "double_blocks.": "only the transformer of FLUX",
    "joint_blocks.": "only the transformer of Stable Diffusion 3",
    "single_transformer_blocks.": "only the transformer of FLUX",
    "time_embedding.linear_1.": "only a U-Net",
    "time_embed.0.": "only a U-Net",
    "decoder.conv_in.": "only an autoencoder",
    "text_model.": "only a text encoder",
    "encoder.block.0.layer.0.": "only a text encoder",
    "body.0.rdb1.": "an upscaler",
    "RDB1.": "an upscaler",
}


def is_checkpoint(names: Iterable[str]) -> bool:
    """Whether a file is a whole pipeline, or claims to be."""
    return any(name.startswith(NETWORK) for name in names)


def missing_part(names: Iterable[str]) -> str | None:
    """The part that a checkpoint does not hold; None if it holds all."""
    names = list(names)
    return next((part for part, starts in PARTS.items() if not any(n.startswith(starts) for n in names)), None)


def loaded_parts(tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, TensorInfo], ...]:
    """Those that loading reads, part by part."""
    return tuple({name: each for name, each in tensors.items() if name.startswith(starts)} for starts in PARTS.values())


def checkpoint_family(names: Iterable[str]) -> str | None:
    """The family of a checkpoint; None if no runner renders with it."""
    text = "\n".join(names)
    if "double_blocks." in text:
        return "flux"
    if "joint_blocks." in text:
        return "stable-diffusion-3"
    if "conditioner.embedders.1." in text:
        return "stable-diffusion-xl"
    if "cond_stage_model.model." in text:
        return "stable-diffusion-2"
    return "stable-diffusion" if "cond_stage_model.transformer." in text else None


def input_channels(tensors: Mapping[str, TensorInfo]) -> int | None:
    """Channels that the U-Net of a checkpoint reads; None without a U-Net."""
    found = tensors.get(FIRST_LAYER)
    return found.shape[1] if found is not None and len(found.shape) > 1 else None


def scaled_tensor(names: Iterable[str]) -> str | None:
    """A tensor of a quantised file that diffusers would read without its scale."""
    return next((name for name in sorted(names) if SCALED.search(name)), None)


def other_content(names: Iterable[str]) -> str:
    """What a file is that is neither a checkpoint nor a LoRA."""
    text = "".join(f".{name}\n" for name in names)
    return next(
        (words for mark, words in OTHERS.items() if f".{mark}" in text), "none of the files that a pipeline is made of"
    )
