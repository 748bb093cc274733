"""What a pipeline is and can do, by its class and the configurations of its networks. Pure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dreamforge.contracts.models.descriptor import FAMILY_PARAMETERS, Mode
from dreamforge.runtime.storage.model_facts import ModelUnusable

INDEX_NAME = "model_index.json"
#: Pipelines that start from nothing but a prompt: their family, by the beginning of the class's name.
FAMILIES = {
    "StableDiffusionXL": "stable-diffusion-xl",
    "StableDiffusion3": "stable-diffusion-3",
    "StableDiffusion": "stable-diffusion",
    "Flux": "flux",
    "FluxKontext": "flux-kontext",
    "Flux2": "flux-2",
    "Flux2Klein": "flux-2-klein",
    "QwenImage": "qwen-image",
    "QwenImageEdit": "qwen-image-edit",
    "QwenImageEditPlus": "qwen-image-edit-plus",
    "ZImage": "z-image",
    "Chroma": "chroma",
    "HiDreamImage": "hidream",
    "Sana": "sana",
    "SanaSprint": "sana-sprint",
    # Before the shorter name, whose variant it would be.
    "WanImageToVideo": "wan-i2v",
    "Wan": "wan",
    "LTX": "ltx",
}
#: What stands between the family and `Pipeline` in classes of these families that a runner knows.
MODES_OF_CLASS: dict[str, tuple[Mode, ...]] = {
    "": ("text", "image", "inpaint"),
    "Img2Img": ("image",),
    "Inpaint": ("image", "inpaint"),
    "ImageToVideo": ("image",),
}
#: Latent channels of the autoencoder of Wan 2.2's smaller model, which starts from a prompt or an image.
WAN_TI2V_CHANNELS = 48
#: Words in the names of classes that cannot run from a prompt, or from one image and a mask.
NEEDS_MORE = ("Control", "Fill", "Redux", "Upscale", "Pix2Pix", "Depth2Img", "Adapter", "Video")
SD2_TEXT_WIDTH = 1024
SD_TEXT_WIDTH = 768
#: What diffusers takes where a configuration does not say.
DEFAULT_CHANNELS = {"unet": 4}
#: Transformers that read a square of 2 x 2 latents as the channels of one token, by the beginning of the class's name.
PACKED = ("Flux", "Chroma", "QwenImage")
#: The shift of the noise schedule of Z-Image-Turbo; that of Z-Image is 6. Nothing else in its files tells them apart.
Z_IMAGE_TURBO_SHIFT = 3.0
#: Parts that a repository leaves out, and where they are from.
LEFT_OUT = {"hidream": ("text_encoder_4", "tokenizer_4")}
LEFT_OUT_FROM = (
    "take a descriptor whose source names Llama 3.1 8B Instruct among its components, as hidream-i1-full.yaml does,"
    " or save the pipeline with it as text_encoder_4 and tokenizer_4"
)
#: A JSON object of any keys. Any: as in the file.
Json = Mapping[str, Any]
#: The config.json of each network, by its name.
Configurations = Mapping[str, Json]


def family_of(class_name: str, configurations: Configurations) -> tuple[str, bool]:
    """The family, and whether no other one fits as well."""
    known = _known_class(class_name, configurations)
    if known is None:
        return "diffusers", False
    if known[0] != "stable-diffusion":
        return known[0], True
    unet = configurations.get("unet", {})
    width = unet.get("cross_attention_dim")
    if width in (SD_TEXT_WIDTH, SD2_TEXT_WIDTH):
        return ("stable-diffusion" if width == SD_TEXT_WIDTH else "stable-diffusion-2"), True
    return ("stable-diffusion-2" if unet.get("use_linear_projection") is True else "stable-diffusion"), False


def modes_of(
    folder: Path, class_name: str, configurations: Configurations, first_layer_channels: int | None
) -> tuple[Mode, ...]:
    """What a pipeline of this class can start from. `first_layer_channels`: of its U-Net's weights; None: unknown.

    Errors: ModelUnusable for a class that needs other input, and for a network that reads other channels.
    """
    known = _known_class(class_name, configurations)
    if known is not None:
        return _modes_of_channels(folder, known[1], configurations, first_layer_channels)
    if any(word in class_name for word in NEEDS_MORE):
        right = "the renderer starts from a prompt, an image, or an image with a mask"
        raise ModelUnusable(str(folder), INDEX_NAME, f"names {class_name}, which needs other input", right)
    return ("text",)


def check_left_out(folder: Path, family: str, index: Json) -> None:
    """Errors: ModelUnusable where a part is open that its publisher may not hand on."""
    for name in LEFT_OUT.get(family, ()):
        value = index.get(name)
        if not (isinstance(value, list) and all(value)):
            raise ModelUnusable(str(folder), name, "is left out of these files", LEFT_OUT_FROM)


def is_distilled(family: str, index: Json, configurations: Configurations, scheduler: Json) -> bool:
    """Whether guidance was distilled away: such a model takes few steps, and no guidance."""
    if family == "z-image":
        return scheduler.get("shift") == Z_IMAGE_TURBO_SHIFT
    if family == "flux-2-klein":
        return index.get("is_distilled") is True
    return family == "flux" and configurations.get("transformer", {}).get("guidance_embeds") is False


def side_px_of(configurations: Configurations) -> int:
    """The side that a network was trained for; 0 if its configuration does not say."""
    vae = configurations.get("vae", {})
    levels = vae.get("block_out_channels") or vae.get("decoder_block_out_channels")
    halvings = len(levels) - 1 if isinstance(levels, list) else -1
    size = configurations.get("unet", configurations.get("transformer", {})).get("sample_size")
    return size * 2**halvings if isinstance(size, int) and halvings >= 0 else 0


def _known_class(class_name: str, configurations: Configurations) -> tuple[str, tuple[Mode, ...]] | None:
    """The family and the modes of a pipeline's class; None for one that is not of these families."""
    for start, family in FAMILIES.items():
        between = class_name.removeprefix(start).removesuffix("Pipeline")
        if class_name.startswith(start) and between in MODES_OF_CLASS:
            if family == "wan" and _latent_channels(configurations.get("vae", {})) == WAN_TI2V_CHANNELS:
                family = "wan-ti2v"
            able = FAMILY_PARAMETERS[family].modes
            return family, tuple(mode for mode in MODES_OF_CLASS[between] if mode in able)
    return None


def _modes_of_channels(
    folder: Path, known: tuple[Mode, ...], configurations: Configurations, found: int | None
) -> tuple[Mode, ...]:
    """The modes of a network by the channels that it reads: latents alone, or also a mask and what it leaves."""
    name = "unet" if "unet" in configurations else "transformer"
    network = configurations.get(name)
    if network is None:
        raise ModelUnusable(str(folder), INDEX_NAME, "lists neither a unet nor a transformer", "take the whole model")
    reads = network.get("in_channels", DEFAULT_CHANNELS.get(name))
    if found is not None and reads != found:
        right = "take the configuration that belongs to the weights"
        raise ModelUnusable(str(folder), name, f"reads {found} channels, but its config.json says {reads}", right)
    latents = _latent_channels(configurations.get("vae", {})) * (_packs(network) if name == "transformer" else 1)
    if not isinstance(reads, int) or reads == latents:
        return known
    if name == "unet" and reads == 2 * latents + 1:
        return ("inpaint",)
    # Of Wan: noise, the latents of the first frame, and a mask of four channels that says which frames are given.
    if known == ("image",) and reads == 2 * latents + 4:
        return known
    right = f"{latents} channels are for a prompt or an image, {2 * latents + 1} for inpainting"
    raise ModelUnusable(str(folder), name, f"reads {reads} channels, which no render gives it", right)


def _latent_channels(vae: Json) -> int:
    # Autoencoders that were made for video call them z.
    return int(vae.get("latent_channels", vae.get("z_dim", 4)))


def _packs(network: Json) -> int:
    """Latents in one token of a transformer."""
    return 4 if str(network.get("_class_name", "")).startswith(PACKED) else 1
