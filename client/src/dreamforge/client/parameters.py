"""What a request may set, as types of keyword arguments. Written by `task client-parameters`."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from dreamforge.contracts.request.guidance_schedule import GuidanceSchedule
from dreamforge.contracts.request.values import (
    ControlUse,
    EmbeddingUse,
    Geometry,
    ImagePromptUse,
    LoraUse,
    MaskedAreaInput,
    UpscaleInput,
)


class OptionalParameters(TypedDict, total=False):
    """What is left out, or None, the preset decides. More of each: docs/request-parameters.md."""

    model_id: str | None
    """Model id; default: the model that was registered first."""
    preset: str | None
    """The preset that fills in what the request leaves out; default: the model's first."""
    negative_prompt: str
    """What the picture must not show."""
    width_px: int | None
    """In pixels; default: the preset's."""
    height_px: int | None
    """In pixels; default: the preset's."""
    steps: int | None
    """Denoising steps; default: the preset's."""
    guidance_scale: float | None
    """How closely to follow the prompt; default: the preset's."""
    guidance_scale_2: float | None
    """Of models with two transformers (Wan 2.2 A14B): that of the second one, which makes the steps with little
    noise. Default: the preset's, or as in the first.
    """
    seed: int | None
    """The same seed gives the same picture; picture i has seed + i. Chosen for you by default."""
    images: int
    """How many, each with the next seed."""
    frames_per_second: int | None
    """At which the video is played; some models render for it. Default: the preset's."""
    frames: int | None
    """Of the video, in place of its duration: a multiple of what the model makes at once, and one."""
    duration_seconds: float | None
    """Of the video, in seconds; it becomes the number of frames that comes nearest. Default: the preset's."""
    sampler: (
        Literal[
            "ddim",
            "ddpm",
            "dpmpp_2m",
            "dpmpp_2m_karras",
            "dpmpp_2m_sde",
            "dpmpp_sde",
            "euler",
            "euler_a",
            "flow_euler",
            "flow_heun",
            "heun",
            "lcm",
            "pndm",
            "unipc",
        ]
        | None
    )
    """Default: the model's own."""
    prompt_syntax: Literal["weighted", "plain"] | None
    """weighted: (word:1.2), (word) and [word] set weights, \\( is a bracket; plain: as written. Default: weighted,
    where the model can.
    """
    vae: str | None
    """A registered autoencoder that encodes and decodes images in place of the model's own. Default: the preset's,
    or the model's own.
    """
    clip_skip: int | None
    """How many of the last layers of the text encoder are left out; default: none. 1 is what A1111 calls 2."""
    guidance_schedule: GuidanceSchedule | None
    """Guides only from one share of the steps to another, or changes the guidance scale from step to step; default:
    one scale in all steps. In a second pass the same, over its own steps.
    """
    seamless: Literal["x", "y", "both"] | None
    """For textures: the left edge continues the right one (x), the upper one the lower one (y), or both."""
    flow_shift: float | None
    """Of models that follow a flow (SD 3, FLUX, Qwen-Image, Wan): above 1, more of the steps are made where there is
    most noise, which decides what goes where. Default: the preset's, or the model's own, which may follow the
    size.
    """
    step_cache: float | None
    """Faster and lossy: where the first layers of a step change by less than this share, the rest is taken from the
    step before. 0.05 is hard to see, 0.15 is not. Default: the preset's, or exact.
    """
    optimisations: str | None
    """Faster, with the same picture to within a level or two: channels_last, fused_projections, attention_cudnn,
    attention_efficient, attention_flash, compiled_blocks, with commas between them, or none. Default: the
    preset's, or the runner's; of a strict render: none.
    """
    quantisation: Literal["none", "int8", "float8"] | None
    """Lossy: the linear layers of the denoiser are computed in 8-bit integers (int8) or floats (float8), faster on
    cards that can, with compiled_blocks; by torchao, on a runner that has it. Default: the preset's, or none.
    """
    allow_quantised: Literal["none", "uint4"] | None
    """Lossy: if the memory suffices in no other way, the weights of the denoiser are quantised to this, and the
    picture is another one. Not of a strict render. Default: the preset's, or none.
    """
    determinism: Literal["strict", "batched"] | None
    """strict: rendered alone, so that the same request gives the same bytes; batched: together with others where
    that is faster, and single pixels may differ by one level. Default: the preset's, or batched.
    """
    geometry: Geometry | None
    """Renders one image at this place of a batch of this size, as its recipe says, to get its bytes again."""
    init_image: str | None
    """SHA-256 of an upload or of an artifact."""
    mask_image: str | None
    """SHA-256 of an upload or of an artifact; what is white is rendered again."""
    mask_selects: Literal["white", "black"] | None
    """What the mask marks: its white parts, or its black ones; default: white."""
    mask_blur_px: float | None
    """How soft its edge is: the standard deviation in pixels of the image; default: as it was drawn."""
    mask_fill: Literal["original", "fill", "noise", "nothing"] | None
    """What the render starts from there: the image (original, the default), the colours around (fill), noise or
    nothing. At strength 1 it is noise anyway.
    """
    masked_area: MaskedAreaInput | None
    """Renders what lies around the mask at the size of the render, and puts it back: the finished image has the size
    of the image to start from.
    """
    strength: float | None
    """How much of the start image is rendered again, 0 to 1."""
    resize_mode: Literal["crop", "fit", "image_size", "stretch"] | None
    """crop: its middle; fit: all of it, with margins; image_size: the render takes its size, in the sides that are
    not set; stretch: squeezed.
    """
    references: Sequence[str]
    """SHA-256 of uploads or of artifacts that the prompt is an instruction about, in the order that it names them
    in.
    """
    loras: Sequence[LoraUse]
    """Registered LoRAs, each with its weight, or with one for the text encoders and one for the rest."""
    image_prompts: Sequence[ImagePromptUse]
    """Images that count beside the prompt, each by a registered IP-Adapter, and the steps in which it does."""
    control: Sequence[ControlUse]
    """Registered ControlNets, each with the image that the render follows and the steps in which it does."""
    upscale: UpscaleInput | None
    """Enlarges the image so many times, and renders it again at that size, as the first time or in its own way."""
    embeddings: Sequence[EmbeddingUse]
    """Words of the prompts that stand for registered embeddings; default: every word that is the name of one."""
    output_format: Literal["png", "jpeg", "webp", "webp_lossless", "avif", "mp4"]
    """png and webp_lossless keep every pixel; jpeg, webp and avif are smaller. A video is mp4."""
    output_quality: int | None
    """Of jpeg, webp, avif and mp4: 0 is the smallest file, 100 the most exact; default: 90, of avif 75, mp4 65."""


class JobParameters(OptionalParameters):
    """Of one job."""

    prompt: str
    """What the picture shows. <lora:NAME:WEIGHT> adds a registered LoRA. Of an upscaler: empty."""


class BatchParameters(OptionalParameters, total=False):
    """What all jobs of a batch have in common."""

    prompt: str
    """What the picture shows. <lora:NAME:WEIGHT> adds a registered LoRA. Of an upscaler: empty."""
