"""What is assumed of a model of which only its family and its weights are known. Pure."""

from dataclasses import dataclass
from typing import TypedDict

from dreamforge.contracts.models.descriptor import FAMILY_PARAMETERS, Parameters, Preset, Tier, VramProfile

GIB = 2**30
#: Bytes of a parameter on a GPU, where the weights are read as float16 or bfloat16.
HALF_BYTES = 2
#: The same of an upscaler, which is read as float32.
SINGLE_BYTES = 4


@dataclass(frozen=True, slots=True)
class FamilyDefaults:
    """Memory of a render besides weights, sizes and steps of a family.

    Source: the descriptor files in `models/`, which say where their own numbers are from; steps, guidance and sizes
    are those of the examples on the models' own pages.
    """

    denoise_bytes_per_latent: int
    decode_bytes_per_px: int
    size_multiple_px: int
    side_px_min: int
    side_px_max: int
    side_px: int
    steps: int
    guidance_scale: float
    vae_scale: int = 8
    #: Steps of a model of the family whose guidance, or whose steps, were distilled away.
    distilled_steps: int = 4
    #: Of a video: the other side, and what else its preset says; frames that its autoencoder makes of one latent frame.
    height_px: int = 0
    frames: int | None = None
    frames_per_second: int | None = None
    frames_per_latent: int = 1
    frame_bytes_per_px: int = 0


class _Video(TypedDict):
    frames_per_second: int
    frames_per_latent: int
    frame_bytes_per_px: int


#: Of a finished frame while a video is decoded: three colours in float32, once more as it is scaled and copied.
FRAME_BYTES_PER_PX = 2 * 3 * SINGLE_BYTES
_WAN_16: _Video = {"frames_per_second": 16, "frames_per_latent": 4, "frame_bytes_per_px": FRAME_BYTES_PER_PX}
_WAN_24: _Video = {**_WAN_16, "frames_per_second": 24}
_LTX: _Video = {"frames_per_second": 24, "frames_per_latent": 8, "frame_bytes_per_px": 115 + FRAME_BYTES_PER_PX}
FAMILY_DEFAULTS = {
    "stable-diffusion": FamilyDefaults(65536, 3072, 8, 256, 1024, 512, 30, 7.5),
    "stable-diffusion-2": FamilyDefaults(65536, 3072, 8, 256, 1536, 768, 30, 7.5),
    "stable-diffusion-xl": FamilyDefaults(65536, 5120, 8, 512, 2048, 1024, 30, 5.0),
    "stable-diffusion-3": FamilyDefaults(98304, 4096, 16, 256, 1440, 1024, 40, 4.5),
    "flux": FamilyDefaults(98304, 4096, 16, 256, 2048, 1024, 28, 3.5),
    "flux-kontext": FamilyDefaults(196608, 4096, 16, 256, 2048, 1024, 28, 2.5),
    "flux-2": FamilyDefaults(196608, 4096, 16, 256, 2048, 1024, 28, 4.0),
    "flux-2-klein": FamilyDefaults(98304, 4096, 16, 256, 2048, 1024, 50, 4.0),
    "qwen-image": FamilyDefaults(131072, 5120, 16, 256, 2048, 1328, 50, 4.0),
    "qwen-image-edit": FamilyDefaults(262144, 5120, 16, 256, 2048, 1024, 50, 4.0),
    "qwen-image-edit-plus": FamilyDefaults(393216, 5120, 16, 256, 2048, 1024, 40, 4.0),
    # Z-Image-Turbo was distilled to eight evaluations, which are eight steps since diffusers 0.42.
    "z-image": FamilyDefaults(98304, 4096, 16, 256, 2048, 1024, 50, 4.0, distilled_steps=8),
    "chroma": FamilyDefaults(98304, 4096, 16, 256, 1536, 1024, 40, 3.0),
    # Its transformer has places for the tokens of one megapixel.
    "hidream": FamilyDefaults(131072, 4096, 16, 256, 1024, 1024, 50, 5.0),
    "sana": FamilyDefaults(262144, 5120, 32, 512, 2048, 1024, 20, 4.5, vae_scale=32),
    "sana-sprint": FamilyDefaults(262144, 5120, 32, 512, 1024, 1024, 2, 4.5, vae_scale=32),
    # Five seconds each. Bytes are those that `bench.activations` counts on the meta device, and 15 % more: Wan 14B
    # takes 28,320 a latent and 10,328 a pixel, its smaller one 20,704 and 10,982, LTX 131,584 and, since it decodes all
    # frames at once, 100 a pixel and frame.
    "wan": FamilyDefaults(32768, 12288, 16, 256, 1280, 832, 50, 5.0, height_px=480, frames=81, **_WAN_16),
    "wan-i2v": FamilyDefaults(32768, 12288, 16, 256, 1280, 832, 40, 5.0, height_px=480, frames=81, **_WAN_16),
    "wan-ti2v": FamilyDefaults(24576, 12800, 32, 256, 1280, 1280, 50, 5.0, 16, height_px=704, frames=121, **_WAN_24),
    "ltx": FamilyDefaults(155648, 1024, 32, 256, 1280, 704, 50, 3.0, 32, height_px=480, frames=121, **_LTX),
    # Of any pipeline: the largest needs, and the coarsest multiple.
    "diffusers": FamilyDefaults(98304, 5120, 16, 256, 2048, 1024, 30, 5.0),
}
#: Side of the tiles that an upscaler enlarges one by one: what A1111 takes.
UPSCALER_TILE_PX = 192


def vram_of(family: str, weights_bytes: int) -> VramProfile:
    """The memory of a pipeline with weights of this size. Errors: KeyError for a family without defaults."""
    known = FAMILY_DEFAULTS[family]
    return VramProfile(
        resident_bytes=weights_bytes,
        denoise_bytes_per_latent=known.denoise_bytes_per_latent,
        decode_bytes_per_px=known.decode_bytes_per_px,
        overhead_bytes=GIB,
        vae_scale=known.vae_scale,
        frames_per_latent=known.frames_per_latent,
        frame_bytes_per_px=known.frame_bytes_per_px,
    )


def tiers_of(family: str, weights_bytes: int, largest_part_bytes: int) -> tuple[Tier, ...]:
    """All weights in GPU memory, or only the part that runs. Errors: KeyError."""
    return (
        Tier(name="full", vram=vram_of(family, weights_bytes)),
        Tier(name="offload", offload="model", vram=vram_of(family, largest_part_bytes)),
    )


def addition_vram_of(weights_bytes: int) -> VramProfile:
    """The memory that a LoRA, ControlNet or VAE takes beside its pipeline."""
    return VramProfile(resident_bytes=weights_bytes, denoise_bytes_per_latent=0, decode_bytes_per_px=0)


def upscaler_vram_of(weights_bytes: int, scale: int) -> VramProfile:
    """The memory of an upscaler in float32: weights, and the features of one tile at its full size, three at a time.

    Source: ESRGAN's last convolutions, which read and write 64 channels; a finished image is kept in the host's memory.
    """
    features_bytes = 64 * 4 * (UPSCALER_TILE_PX * scale) ** 2
    return VramProfile(
        resident_bytes=weights_bytes + 3 * features_bytes,
        denoise_bytes_per_latent=0,
        decode_bytes_per_px=0,
        vae_scale=1,
    )


#: Of an upscaler: its sides follow from the image.
UPSCALER_PRESET = Preset(name="standard", title="Enlarged", width_px=64, height_px=64, steps=1, guidance_scale=0.0)


def without_guidance(family: str) -> Parameters:
    """What a model of a family can do whose guidance was distilled away. Errors: KeyError.

    >>> without_guidance("flux").guidance_scale_max, without_guidance("z-image").guidance_scale_max
    (1.0, 0.0)
    """
    # No guidance is 1 by the formula that most use, and 0 by that of Z-Image, where 1 is what others call 2.
    none = 0.0 if family == "z-image" else 1.0
    update = {"negative_prompt": False, "guidance_scale_max": none, "guidance_schedule": False}
    return FAMILY_PARAMETERS[family].model_copy(update=update)


def preset_of(family: str, side_px: int, *, is_guidance_distilled: bool) -> Preset:
    """The default preset. `side_px`: what the network was trained for, 0 if unknown. Errors: KeyError."""
    known = FAMILY_DEFAULTS[family]
    side_px = side_px or known.side_px
    return Preset(
        name="standard",
        title="Standard",
        width_px=side_px,
        height_px=known.height_px or side_px,
        frames=known.frames,
        frames_per_second=known.frames_per_second,
        steps=known.distilled_steps if is_guidance_distilled else known.steps,
        guidance_scale=0.0 if is_guidance_distilled else known.guidance_scale,
    )
