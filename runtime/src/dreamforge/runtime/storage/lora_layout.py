"""What a LoRA file is, from the names and shapes of its tensors. Pure.

Names: those of diffusers and PEFT (`unet.….lora_A.weight`), of kohya's trainers (`lora_unet_….lora_down.weight`), and
those of LyCORIS (`lycoris_layout`).
"""

import re
from collections.abc import Iterable, Mapping

from dreamforge.runtime.storage.lycoris_layout import MARKS, changes_weights, incomplete_layer, input_widths
from dreamforge.runtime.storage.safetensors_header import SafetensorsHeader, TensorInfo

#: Ends of the names that diffusers reads: into the low rank, and out of it.
DOWN = (
    *(".lora_down.weight", ".lora_A.weight", ".lora.down.weight", "_lora.down.weight"),
    *("_lora1.down.weight", "_lora2.down.weight"),  # XLabs' for FLUX
)
UP = (
    *(".lora_up.weight", ".lora_B.weight", ".lora.up.weight", "_lora.up.weight"),
    *("_lora1.up.weight", "_lora2.up.weight"),
)
#: Formats of which neither diffusers nor we apply all: other pictures than the trainer's would come of them.
UNREAD = {
    "oft_blocks": "OFT (LyCORIS)",
    "oft_diag": "OFT (LyCORIS)",
    ".on_input": "IA3 (LyCORIS)",
}
FULL_DIFFERENCES = (".diff", ".diff_b")
#: Width of the text that cross-attention reads; it differs between the families that have a U-Net.
FAMILY_OF_TEXT_WIDTH = {768: "stable-diffusion", 1024: "stable-diffusion-2", 2048: "stable-diffusion-xl"}
#: Width of FLUX's and of Qwen-Image's transformer; that of Stable Diffusion 3 is another in each size.
FLUX_WIDTH = 3072
#: FLUX has so many blocks with two streams, Qwen-Image has 60.
FLUX_BLOCKS = 19
#: Names that only one family has. Original FLUX is not among them: FLUX.2 and Chroma have its names.
MARKS_OF_FAMILY = {
    "double_stream_blocks.": "hidream",
    "single_stream_blocks.": "hidream",
    "to_qkv_mlp_proj": "flux-2",
    "stream_modulation": "flux-2",
    "distilled_guidance_layer": "chroma",
    "noise_refiner.": "z-image",
    "context_refiner.": "z-image",
}
#: The layers of Z-Image, in the names of diffusers and of kohya's trainers.
Z_IMAGE_LAYER = re.compile(r"(?:^|[._])layers[._]\d+[._](?:attention|feed_forward)[._]")
#: Widths of FLUX.2: 6144 is [dev], the others are [klein] 9B and 4B.
FAMILY_OF_FLUX_2_WIDTH = {6144: "flux-2", 4096: "flux-2-klein", 3072: "flux-2-klein"}
#: Widths of Sana's transformers of 0.6 and 1.6 billion parameters.
SANA_WIDTHS = frozenset({1152, 2240})
BLOCK_NUMBER = re.compile(r"transformer_blocks[._](\d+)")
#: What trainers write: `ss_base_model_version` and `modelspec.architecture`, by their beginning.
FAMILY_OF_METADATA = {
    "sdxl": "stable-diffusion-xl",
    "sd_v1": "stable-diffusion",
    "sd_v2": "stable-diffusion-2",
    "sd3": "stable-diffusion-3",
    "flux2": "flux-2",
    "flux-2": "flux-2",
    "flux": "flux",
    "qwen": "qwen-image",
    "zimage": "z-image",
    "z-image": "z-image",
    "chroma": "chroma",
    "sana": "sana",
    "stable-diffusion-xl": "stable-diffusion-xl",
    "stable-diffusion-v1": "stable-diffusion",
    "stable-diffusion-v2": "stable-diffusion-2",
    "stable-diffusion-3": "stable-diffusion-3",
}


def is_lora(names: Iterable[str]) -> bool:
    """Whether the tensors are those of a LoRA, in a format that is read or not."""
    return any(name.endswith((*DOWN, *UP)) or any(mark in name for mark in (*UNREAD, *MARKS)) for name in names)


def unread_format(names: Iterable[str]) -> str | None:
    """The format of tensors that is not applied as a whole; None where all are."""
    names = list(names)
    if any(name.endswith(FULL_DIFFERENCES) for name in names):
        return "full differences of weights (LyCORIS)"
    return next((words for mark, words in UNREAD.items() if any(mark in name for name in names)), None)


def without_partner(names: Iterable[str]) -> str | None:
    """A tensor or layer whose other half is missing; None if each has its partner."""
    have = set(names)
    if changes_weights(have):
        return incomplete_layer(sorted(have))
    for ends, others in ((DOWN, UP), (UP, DOWN)):
        for name in sorted(have):
            for end, other in zip(ends, others, strict=True):
                if name.endswith(end) and name.removesuffix(end) + other not in have:
                    return name
    return None


def lora_family(header: SafetensorsHeader) -> str | None:
    """The family that a LoRA was made for; None if neither shapes nor metadata tell."""
    said = _family_of_metadata(header.metadata)
    # Chroma was made of FLUX, and has its names and shapes.
    return said if said == "chroma" else _family_of_shapes(header.tensors) or said


def _family_of_shapes(tensors: Mapping[str, TensorInfo]) -> str | None:
    names = "\n".join(tensors)
    read = _input_widths(tensors)
    widths = set(read.values())
    if (newer := _newer_family(names, widths)) is not None:
        return newer
    if "single_blocks" in names or "double_blocks" in names or "single_transformer_blocks" in names:
        return "flux"
    if "joint_blocks" in names:
        return "stable-diffusion-3"
    if "transformer.transformer_blocks" in names:
        return "flux" if FLUX_WIDTH in widths else "stable-diffusion-3"
    text = {width for name, width in read.items() if "attn2" in name and ("to_k" in name or "to_v" in name)}
    if len(text) == 1:
        return FAMILY_OF_TEXT_WIDTH.get(text.pop())
    if not text and ("lora_te1_" in names or "lora_te2_" in names or "text_encoder_2." in names):
        return "stable-diffusion-xl"
    encoder = {width for width in widths if width in (768, 1024)} if not text and "lora_unet_" not in names else set()
    return FAMILY_OF_TEXT_WIDTH.get(encoder.pop()) if len(encoder) == 1 and "unet." not in names else None


def _input_widths(tensors: Mapping[str, TensorInfo]) -> dict[str, int]:
    """How many numbers the layers read, by the names of layers or of tensors."""
    plain = {name: each.shape[1] for name, each in tensors.items() if name.endswith(DOWN) and len(each.shape) > 1}
    return plain | input_widths({name: each.shape for name, each in tensors.items() if len(each.shape) > 1})


def _newer_family(names: str, widths: set[int]) -> str | None:
    """The family by what the transformers of 2025 have; None for the others, and for what several have."""
    found = next((family for mark, family in MARKS_OF_FAMILY.items() if mark in names), None)
    if found == "flux-2":
        return next((FAMILY_OF_FLUX_2_WIDTH[width] for width in widths if width in FAMILY_OF_FLUX_2_WIDTH), found)
    if found is not None:
        return found
    if any(Z_IMAGE_LAYER.search(name) for name in names.splitlines()):
        return "z-image"
    if "double_blocks" in names or "single_blocks" in names:
        return FAMILY_OF_FLUX_2_WIDTH.get(max(widths - {FLUX_WIDTH}, default=0))
    blocks = [int(number) for number in BLOCK_NUMBER.findall(names)]
    has_one_stream = "single_transformer_blocks" in names
    if FLUX_WIDTH in widths and not has_one_stream and max(blocks, default=0) >= FLUX_BLOCKS:
        return "qwen-image"
    return "sana" if blocks and widths & SANA_WIDTHS and not has_one_stream else None


def _family_of_metadata(metadata: Mapping[str, str]) -> str | None:
    written = (metadata.get("ss_base_model_version", ""), metadata.get("modelspec.architecture", ""))
    for text in written:
        for start, family in FAMILY_OF_METADATA.items():
            if text.lower().startswith(start):
                return family
    return None
