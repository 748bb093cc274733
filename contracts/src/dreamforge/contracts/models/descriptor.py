"""What can be rendered: model descriptors, their presets and what they need of a GPU, as values."""

from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from dreamforge.contracts.models.optimisations import Optimisations
from dreamforge.contracts.models.source import ModelFile as ModelFile
from dreamforge.contracts.models.source import ModelSource as ModelSource
from dreamforge.contracts.models.source import Sha256 as Sha256
from dreamforge.contracts.models.value import Value as Value
from dreamforge.contracts.models.value import is_blank as is_blank
from dreamforge.contracts.models.value import is_empty as is_empty
from dreamforge.contracts.models.value import is_none as is_none
from dreamforge.contracts.models.value import is_one as is_one
from dreamforge.contracts.models.value import is_zero as is_zero
from dreamforge.contracts.token import Token as Token

# What a model is: a pipeline renders, an upscaler enlarges, for itself or between the passes of a pipeline; an
# embedding is what a word of a prompt means; the others change how a pipeline renders. T2I-Adapters are used as
# ControlNets are, and so of their kind; FLUX Redux is used as an IP-Adapter is.
Kind = Literal["pipeline", "lora", "controlnet", "vae", "upscaler", "embedding", "ip_adapter"]
# What a job can name as its model.
JOB_KINDS: tuple[Kind, ...] = ("pipeline", "upscaler")
# What a job starts from: noise, a picture, or a picture with a hole in it.
Mode = Literal["text", "image", "inpaint"]
# Samplers by the names their users know; `gpu_runner.samplers` maps each to a diffusers scheduler.
SamplerName = Literal[
    "ddim", "ddpm", "dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde", "dpmpp_sde", "euler", "euler_a", "flow_euler",
    "flow_heun", "heun", "lcm", "pndm", "unipc",
]  # fmt: skip
# How a second pass enlarges the image before it renders it again: its pixels, or its latents as A1111 does. "exact" is
# torch's nearest-exact, "smooth" an interpolation with antialiasing.
UpscaleMethod = Literal[
    "lanczos", "nearest", "latent", "latent_smooth", "latent_bicubic", "latent_bicubic_smooth", "latent_nearest",
    "latent_nearest_exact",
]  # fmt: skip
Dtype = Literal["float32", "bfloat16", "float16"]
# What the weights of a denoiser can become: unsigned 4-bit integers, where nothing else makes a render fit, or what its
# products are computed in.
QuantisedWeights = Literal["uint4", "int8", "float8"]
QuantisedAllowed = Literal["none", "uint4"]
# What the products of a denoiser's linear layers are computed in, weights and activations: see the parameter.
Quantisation = Literal["none", "int8", "float8"]


# More images than any model reads at once: keeps the list of a request short before anything is looked up.
REFERENCES_MAX = 16
#: Beyond it all steps but the last are noise; publishers name 3 to 12. The bound of the node of ComfyUI.
FLOW_SHIFT_MAX = 100.0


class VramProfile(Value):
    """Coefficients of the memory a model needs; see `vram.estimate_vram_bytes`."""

    resident_bytes: int = Field(ge=0, description="weights and persistent buffers in GPU memory")
    denoise_bytes_per_latent: int = Field(ge=0, description="peak activations of one step, per latent pixel")
    decode_bytes_per_px: int = Field(ge=0, description="peak activations of the image decoder, per output pixel")
    overhead_bytes: int = Field(default=0, ge=0, description="context and workspace that any render needs")
    vae_scale: int = Field(default=8, ge=1, description="output pixels per latent pixel, along one side")
    frames_per_latent: int = Field(
        default=1, ge=1, exclude_if=is_one, description="of a video: frames that one latent frame after the first makes"
    )
    frame_bytes_per_px: int = Field(
        default=0, ge=0, exclude_if=is_zero, description="of a video: finished frames while it is decoded, per pixel"
    )


class Preset(Value):
    """A named way to use a model: what a request gets when it does not say."""

    name: Token
    title: str = ""
    width_px: int = Field(ge=8)
    height_px: int = Field(ge=8)
    steps: int = Field(ge=1)
    guidance_scale: float = Field(ge=0)
    guidance_scale_2: float | None = Field(
        default=None, ge=0, exclude_if=is_none, description="of a second transformer; None: as the first"
    )
    frames: int | None = Field(default=None, ge=1, exclude_if=is_none, description="of a video")
    frames_per_second: int | None = Field(default=None, ge=1, exclude_if=is_none, description="of a video")
    flow_shift: float | None = Field(
        default=None, gt=0, le=FLOW_SHIFT_MAX, exclude_if=is_none, description="see the parameter of requests"
    )
    step_cache: float | None = Field(
        default=None, gt=0, le=1, exclude_if=is_none, description="lossy: see the parameter of requests"
    )
    vae: Token | None = Field(
        default=None, exclude_if=is_none, description="a registered VAE in place of the model's own; lossy if distilled"
    )
    optimisations: Optimisations | None = Field(
        default=None, exclude_if=is_none, description="names with commas between them; none: none; None: the runner's"
    )
    allow_quantised: QuantisedAllowed | None = Field(
        default=None, exclude_if=is_none, description="lossy: see the parameter of requests"
    )
    quantisation: Quantisation | None = Field(
        default=None, exclude_if=is_none, description="lossy: see the parameter of requests"
    )
    determinism: Literal["strict", "batched"] | None = Field(
        default=None, exclude_if=is_none, description="strict: its images are rendered alone; None: batched"
    )
    card_gb: int | None = Field(
        default=None, ge=1, exclude_if=is_none, description="for cards of so many gigabytes (10**9 bytes) and more"
    )


class Tier(Value):
    """One way to fit a model into memory. A runner takes the first tier of a model that fits its budget."""

    name: Token
    vram: VramProfile
    dtype: Dtype | None = Field(default=None, description="None: what the runner uses anyway")
    offload: Literal["none", "model", "sequential"] = Field(
        default="none", description="what waits in the host's memory: nothing, idle parts, or every layer"
    )
    vae_tiling: bool = Field(default=False, description="decode tile by tile: less memory, faint seams")


class Parameters(Value):
    """What a model can do for a request; the rest of its bounds are sizes and the gateway's limits."""

    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("text",)
    negative_prompt: bool = True
    steps_min: int = Field(default=1, ge=1, exclude_if=is_one, description="fewer give no image")
    steps_max: int = Field(default=1000, ge=1, description="steps the noise schedule was trained with")
    guidance_scale_min: float = Field(default=0.0, ge=0)
    guidance_scale_max: float = Field(default=100.0, ge=0)
    samplers: tuple[SamplerName, ...] = Field(default=(), description="besides the model's own")
    loras_max: int = Field(default=0, ge=0)
    controlnet: bool = False
    image_prompts_max: int = Field(
        default=0, ge=0, exclude_if=is_zero, description="images that can stand beside a prompt, by IP-Adapters"
    )
    upscale_max: float = Field(default=1.0, ge=1, description="largest factor of the second pass; 1: none")
    references_max: int = Field(
        default=0, ge=0, le=REFERENCES_MAX, exclude_if=is_zero, description="images that an instruction may be about"
    )
    references_needed: bool = Field(
        default=False, exclude_if=is_zero, description="whether it renders nothing without such an image"
    )
    prompt_weights: bool = Field(
        default=False, exclude_if=is_zero, description="whether (word:1.2) in a prompt can be weighted"
    )
    clip_skip_max: int = Field(
        default=0, ge=0, exclude_if=is_zero, description="most layers of the text encoders that can be left out"
    )
    embeddings_max: int = Field(
        default=0, ge=0, exclude_if=is_zero, description="words of its prompts that can stand for embeddings"
    )
    vae: bool = Field(default=False, exclude_if=is_zero, description="whether another autoencoder can take its place")
    seamless: bool = Field(
        default=False, exclude_if=is_zero, description="whether the edges of an image can be made to meet"
    )
    guidance_schedule: bool = Field(
        default=False, exclude_if=is_zero, description="whether the guidance scale can change from step to step"
    )
    flow_shift: bool = Field(
        default=False,
        exclude_if=is_zero,
        description="whether its steps follow a flow that can be shifted",
    )
    step_cache: bool = Field(
        default=False, exclude_if=is_zero, description="whether steps that change little can be skipped in part"
    )
    frames_max: int = Field(default=0, ge=0, exclude_if=is_zero, description="of a video; 0: it renders images")
    frames_step: int = Field(
        default=1, ge=1, exclude_if=is_one, description="frames of a video are a multiple of it, and one"
    )

    @property
    def is_video(self) -> bool:
        """Whether what it renders are videos."""
        return self.frames_max > 0


FLOW_SAMPLERS: tuple[SamplerName, ...] = ("flow_euler", "flow_heun")
# Those of models that predict noise (or velocity): a flow model cannot use them, nor they a flow sampler.
EPSILON_SAMPLERS: tuple[SamplerName, ...] = tuple(n for n in get_args(SamplerName) if n not in FLOW_SAMPLERS)
# More LoRAs at once are rarely meant, and each takes memory: our bound for the families that we know.
FAMILY_LORAS_MAX = 8
# The same of embeddings, of which people name many in a negative prompt.
FAMILY_EMBEDDINGS_MAX = 16
# The same of image prompts: one for the style and one for each of a few things to be seen.
FAMILY_IMAGE_PROMPTS_MAX = 4
# A fourfold side is a sixteenfold picture; sizes beyond are what upscalers of their own are for.
FAMILY_UPSCALE_MAX = 4.0

_UNET = Parameters(
    modes=("text", "image", "inpaint"),
    samplers=EPSILON_SAMPLERS,
    loras_max=FAMILY_LORAS_MAX,
    controlnet=True,
    image_prompts_max=FAMILY_IMAGE_PROMPTS_MAX,
    upscale_max=FAMILY_UPSCALE_MAX,
    embeddings_max=FAMILY_EMBEDDINGS_MAX,
    vae=True,
    seamless=True,
    guidance_schedule=True,
)
_FLOW = Parameters(
    modes=("text", "image", "inpaint"), samplers=FLOW_SAMPLERS, loras_max=FAMILY_LORAS_MAX, vae=True, flow_shift=True
)
# Their pipelines give the sampler a schedule of their own, which only the sampler that they were made with takes.
_OWN_SCHEDULE = _FLOW.model_copy(update={"samplers": ("flow_euler",)})
# Autoencoders of classes of their own.
_NEWER = _OWN_SCHEDULE.model_copy(update={"vae": False})
_TEXT_ONLY = _NEWER.model_copy(update={"modes": ("text",)})
_TWO_STEPS = {"steps_min": 2}
# More frames than they were trained with give loops and noise; diffusers' pages name these numbers. Wan's autoencoder
# makes four frames of a latent one, that of LTX eight. Their samplers are those that they come with.
_WAN = Parameters(
    negative_prompt=True, loras_max=FAMILY_LORAS_MAX, frames_max=121, frames_step=4, step_cache=True, flow_shift=True
)
#: What is known of a family, for models whose descriptor does not say.
FAMILY_PARAMETERS = {
    # At least one layer of the text encoder stays: of 12, of 23, and of 12 whose last one SDXL never uses.
    "stable-diffusion": _UNET.model_copy(update={"clip_skip_max": 11, "prompt_weights": True}),
    "stable-diffusion-2": _UNET.model_copy(update={"clip_skip_max": 22, "prompt_weights": True}),
    "stable-diffusion-xl": _UNET.model_copy(update={"clip_skip_max": 10, "prompt_weights": True}),
    "stable-diffusion-3": _FLOW.model_copy(update={"guidance_schedule": True}),
    # Its guidance is distilled into the weights: there is no second, negative pass.
    "flux": _OWN_SCHEDULE.model_copy(
        update={"negative_prompt": False, "step_cache": True, "image_prompts_max": FAMILY_IMAGE_PROMPTS_MAX}
    ),
    "flux-kontext": _TEXT_ONLY.model_copy(update={"negative_prompt": False, "references_max": 1, "vae": True}),
    # How many images: what the pages of both name.
    "flux-2": _TEXT_ONLY.model_copy(update={"negative_prompt": False, "references_max": 10}),
    # Those that are not distilled are guided away from the empty prompt, and from no other.
    "flux-2-klein": _TEXT_ONLY.model_copy(update={"negative_prompt": False, "references_max": 4}),
    # Its schedule is stretched between its first and its last step, which must not be the same.
    "qwen-image": _NEWER.model_copy(update={"step_cache": True, **_TWO_STEPS}),
    "qwen-image-edit": _TEXT_ONLY.model_copy(update={"references_max": 1, "references_needed": True, **_TWO_STEPS}),
    # From 2509 on: trained with one to three.
    "qwen-image-edit-plus": _TEXT_ONLY.model_copy(
        update={"references_max": 3, "references_needed": True, **_TWO_STEPS}
    ),
    "z-image": _NEWER,
    # Its pipeline for inpainting asks its transformer for a setting of FLUX (diffusers 0.42.1).
    "chroma": _NEWER.model_copy(update={"modes": ("text", "image")}),
    "hidream": _TEXT_ONLY.model_copy(update={"samplers": ()}),
    "sana": _TEXT_ONLY.model_copy(update={"samplers": ()}),
    # A consistency model: its steps are no steps of another sampler.
    "sana-sprint": _TEXT_ONLY.model_copy(
        update={"samplers": (), "modes": ("text", "image"), "negative_prompt": False, "flow_shift": False}
    ),
    "wan": _WAN,
    # Its transformer reads the latents of the first frame beside the noise.
    "wan-i2v": _WAN.model_copy(update={"modes": ("image",)}),
    "wan-ti2v": _WAN.model_copy(update={"modes": ("text", "image")}),
    "ltx": _WAN.model_copy(update={"modes": ("text", "image"), "frames_max": 257, "frames_step": 8, **_TWO_STEPS}),
}
_PLAIN = Parameters()
# Of an upscaler: nothing is prompted, and there are no steps.
_UPSCALER = Parameters(modes=("image",), negative_prompt=False, steps_max=1, guidance_scale_max=0.0)
#: Families whose networks are those of another one: LoRAs of either fit both.
BASE_FAMILIES = {
    "flux-kontext": "flux",
    "qwen-image-edit": "qwen-image",
    "qwen-image-edit-plus": "qwen-image",
    "sana-sprint": "sana",
}


class ModelDescriptor(Value):
    """A model as the registry knows it. The first preset is the default one.

    A LoRA, ControlNet, VAE, embedding or IP-Adapter is registered like a model: it has no presets, and fits pipelines
    of its `family`. An upscaler fits all of them.
    """

    model_id: Token
    title: str = ""
    family: Token
    licence: str = "unknown"
    digest: Sha256
    size_multiple_px: int = Field(default=8, ge=1)
    side_px_min: int = Field(default=32, ge=8)
    side_px_max: int = Field(default=1024, ge=8)
    vram: VramProfile
    presets: tuple[Preset, ...] = ()
    kind: Kind = Field(default="pipeline", exclude_if=lambda kind: kind == "pipeline")
    parameters: Parameters | None = Field(default=None, exclude_if=is_none)
    tiers: tuple[Tier, ...] = Field(default=(), exclude_if=is_empty, description="the most comfortable one first")
    source: ModelSource | None = Field(default=None, exclude_if=is_none)
    text_encoder_layers: int | None = Field(
        default=None, ge=1, exclude_if=is_none, description="of its smallest CLIP text encoder, read from its files"
    )
    second_transformer: bool = Field(
        default=False,
        exclude_if=is_zero,
        description="whether another transformer makes the steps with little noise, read from its files",
    )
    eight_bit_saved_bytes: int = Field(
        default=0,
        ge=0,
        exclude_if=is_zero,
        description="what its weights take less than in 16 bits where its products are computed in 8; from its files",
    )

    scale: int | None = Field(
        default=None, ge=1, exclude_if=is_none, description="of an upscaler: how many times it enlarges a side"
    )

    @model_validator(mode="after")
    def _what_a_job_can_name_has_presets(self) -> Self:
        if self.kind in JOB_KINDS and not self.presets:
            raise ValueError(f"{'a pipeline' if self.kind == 'pipeline' else 'an upscaler'} needs at least one preset")
        if (self.kind == "upscaler") != (self.scale is not None):
            raise ValueError("an upscaler, and nothing else, needs its scale")
        return self

    @property
    def capabilities(self) -> Parameters:
        """What the model can do: its own `parameters`, else what its family can, else plain text-to-image."""
        usual = _UPSCALER if self.kind == "upscaler" else FAMILY_PARAMETERS.get(self.family, _PLAIN)
        return self.parameters or usual

    @property
    def base_family(self) -> str:
        """The family of the LoRAs and ControlNets that fit it, or, of one of these, of the models."""
        return BASE_FAMILIES.get(self.family, self.family)

    @property
    def all_tiers(self) -> tuple[Tier, ...]:
        """Its tiers; a model that names none has one, all of it in memory."""
        return self.tiers or (Tier(name="full", vram=self.vram),)

    def tier(self, name: str) -> Tier | None:
        """The tier of this name, or None."""
        return next((tier for tier in self.all_tiers if tier.name == name), None)

    def preset(self, name: str) -> Preset | None:
        """The preset of this name, or None."""
        return next((p for p in self.presets if p.name == name), None)
