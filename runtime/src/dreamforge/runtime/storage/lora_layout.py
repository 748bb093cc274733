"""What a LoRA file is, from the names and shapes of its tensors. Pure.

Names: those of diffusers and PEFT (`unet.….lora_A.weight`), and of kohya's trainers (`lora_unet_….lora_down.weight`).
"""

from collections.abc import Iterable, Mapping

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
#: Formats of which diffusers drops or does not know a part: it would paint other pictures than the trainer did.
UNREAD = {
    "hada_": "LoHa (LyCORIS)",
    "lokr_": "LoKr (LyCORIS)",
    "oft_blocks": "OFT (LyCORIS)",
    "oft_diag": "OFT (LyCORIS)",
    ".lora_mid.": "LoCon with a Tucker decomposition (LyCORIS)",
    "dora_scale": "DoRA in kohya's layout",
    ".on_input": "IA3 (LyCORIS)",
}
FULL_DIFFERENCES = (".diff", ".diff_b")
#: Width of the text that cross-attention reads; it differs between the families that have a U-Net.
FAMILY_OF_TEXT_WIDTH = {768: "stable-diffusion", 1024: "stable-diffusion-2", 2048: "stable-diffusion-xl"}
#: Width of FLUX's transformer; that of Stable Diffusion 3 is another in each size.
FLUX_WIDTH = 3072
#: What trainers write: `ss_base_model_version` and `modelspec.architecture`, by their beginning.
FAMILY_OF_METADATA = {
    "sdxl": "stable-diffusion-xl",
    "sd_v1": "stable-diffusion",
    "sd_v2": "stable-diffusion-2",
    "sd3": "stable-diffusion-3",
    "flux": "flux",
    "stable-diffusion-xl": "stable-diffusion-xl",
    "stable-diffusion-v1": "stable-diffusion",
    "stable-diffusion-v2": "stable-diffusion-2",
    "stable-diffusion-3": "stable-diffusion-3",
}


def is_lora(names: Iterable[str]) -> bool:
    """Whether the tensors are those of a LoRA, in a format that is read or not."""
    return any(name.endswith((*DOWN, *UP)) or any(mark in name for mark in UNREAD) for name in names)


def unread_format(names: Iterable[str]) -> str | None:
    """The format of tensors that diffusers does not read; None if it reads all."""
    names = list(names)
    if any(name.endswith(FULL_DIFFERENCES) for name in names):
        return "full differences of weights (LyCORIS)"
    return next((words for mark, words in UNREAD.items() if any(mark in name for name in names)), None)


def without_partner(names: Iterable[str]) -> str | None:
    """A tensor whose other half is missing; None if each has its partner."""
    have = set(names)
    for ends, others in ((DOWN, UP), (UP, DOWN)):
        for name in sorted(have):
            for end, other in zip(ends, others, strict=True):
                if name.endswith(end) and name.removesuffix(end) + other not in have:
                    return name
    return None


def lora_family(header: SafetensorsHeader) -> str | None:
    """The family that a LoRA was made for; None if neither shapes nor metadata tell."""
    return _family_of_shapes(header.tensors) or _family_of_metadata(header.metadata)


def _family_of_shapes(tensors: Mapping[str, TensorInfo]) -> str | None:
    names = "\n".join(tensors)
    if "single_blocks" in names or "double_blocks" in names or "single_transformer_blocks" in names:
        return "flux"
    if "joint_blocks" in names:
        return "stable-diffusion-3"
    widths = {each.shape[1] for name, each in tensors.items() if name.endswith(DOWN) and len(each.shape) > 1}
    if "transformer.transformer_blocks" in names:
        return "flux" if FLUX_WIDTH in widths else "stable-diffusion-3"
    text = {
        each.shape[1]
        for name, each in tensors.items()
        if name.endswith(DOWN) and "attn2" in name and ("to_k" in name or "to_v" in name)
    }
    if len(text) == 1:
        return FAMILY_OF_TEXT_WIDTH.get(text.pop())
    if not text and ("lora_te1_" in names or "lora_te2_" in names or "text_encoder_2." in names):
        return "stable-diffusion-xl"
    encoder = {width for width in widths if width in (768, 1024)} if not text and "lora_unet_" not in names else set()
    return FAMILY_OF_TEXT_WIDTH.get(encoder.pop()) if len(encoder) == 1 and "unet." not in names else None


def _family_of_metadata(metadata: Mapping[str, str]) -> str | None:
    written = (metadata.get("ss_base_model_version", ""), metadata.get("modelspec.architecture", ""))
    for text in written:
        for start, family in FAMILY_OF_METADATA.items():
            if text.lower().startswith(start):
                return family
    return None
