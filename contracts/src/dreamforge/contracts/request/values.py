"""Values inside a request: a LoRA, a ControlNet, a second pass, a geometry. Pure.

Bounds that stand on the recorded values (`Upscale`) hold for every event that was ever written, so they only ever
get wider. Bounds of new requests may be narrower; they stand beside them under their own names.
"""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from dreamforge.contracts.lists import in_a_list
from dreamforge.contracts.models.descriptor import SamplerName, Sha256, Token, UpscaleMethod, Value, is_none
from dreamforge.contracts.request.preprocessing import Preprocessing
from dreamforge.contracts.request.tiles import Box, boxes

# How brackets in a prompt are read.
PromptSyntax = Literal["weighted", "plain"]
# How an image of another shape is brought to the size of the render.
ResizeMode = Literal["crop", "fit", "stretch"]
# A request can also take the image's size; it is recorded with the sides that came of it, and what is over is cropped.
RequestedResizeMode = Literal["crop", "fit", "image_size", "stretch"]
# What lies below a mask when the render starts: the image itself, the colours around the mask spread into it, noise, or
# latents that are zero. The last two are in the latents, as A1111 has them.
MaskFill = Literal["original", "fill", "noise", "nothing"]
# Which colour of a mask is rendered again.
MaskSelects = Literal["white", "black"]
# strict: rendered alone, so that its bytes follow from the request; batched: with others, where that is faster.
Determinism = Literal["strict", "batched"]
# Along which axes the edges of an image meet.
SeamlessAxes = Literal["x", "y", "both"]
# Exact in JSON and in every browser.
Seed = Annotated[int, Field(ge=0, le=2**53 - 1)]


def _whole(value: object) -> object:
    """JSON knows one kind of number: 64.0 is the integer 64."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
# Postgres can store every character but NUL, so it must not get into the log.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
# One latent a side: what the autoencoders of all families need.
SIDE_PX_MIN = 8
# No image has a longer side; the model's descriptor says less. Keeps every number small enough for arithmetic.
SIDE_PX_MAX = 65_536
# Less than a hundredth of the schedule changes nothing. Recorded strengths are only above 0.
STRENGTH_MIN = 0.01
# Share of the steps that a second pass repeats when the request does not say.
UPSCALE_STRENGTH = 0.35
# No model goes beyond this; what one model takes, its `upscale_max` says.
UPSCALE_FACTOR_MAX = 16.0
LORA_WEIGHT_MAX = 4.0
# As long as a title can sensibly be.
EMBEDDING_WORD_CHARACTERS_MAX = 200
CONTROL_SCALE_MAX = 4.0
IMAGE_PROMPT_SCALE_MAX = 4.0
# More blur than this is one grey, and only costs time.
MASK_BLUR_PX_MAX = 1_000.0
# Our bound on images that are rendered in one run: beyond it, memory is all that grows.
GEOMETRY_SIZE_MAX = 64


class EmbeddingUse(Value):
    """A registered embedding, and the word of the prompts that stands for it."""

    model_id: Token = Field(title="Embedding", json_schema_extra={"x-widget": "embedding"})
    word: Text = Field(
        default="",
        max_length=EMBEDDING_WORD_CHARACTERS_MAX,
        title="Word",
        description="What stands for it in a prompt; default: its id.",
        json_schema_extra={"x-widget": "text"},
    )


class LoraUse(Value):
    """A registered LoRA, added to the model with a weight."""

    model_id: Token = Field(title="LoRA", json_schema_extra={"x-widget": "lora"})
    weight: float = Field(
        default=1.0,
        ge=-LORA_WEIGHT_MAX,
        le=LORA_WEIGHT_MAX,
        allow_inf_nan=False,
        title="Weight",
        description="How strongly it acts; a negative weight acts the other way.",
        json_schema_extra={"x-widget": "number"},
    )
    text_weight: float | None = Field(
        default=None,
        ge=-LORA_WEIGHT_MAX,
        le=LORA_WEIGHT_MAX,
        allow_inf_nan=False,
        exclude_if=is_none,
        title="Text weight",
        description="The same of its layers in the text encoders, where that is another weight.",
        json_schema_extra={"x-widget": "number"},
    )


def is_first_step(value: object) -> bool:
    """From the first step on, as every ControlNet before there was a choice."""
    return value == 0


def is_last_step(value: object) -> bool:
    """To the last step, likewise."""
    return value == 1


# The steps in which something acts, as shares of those that a pass makes (`step_window.window_steps`).
WindowStart = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        exclude_if=is_first_step,
        title="From",
        description="Share of the steps after which it begins; 0: at once.",
        json_schema_extra={"x-widget": "number"},
    ),
]
WindowEnd = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        exclude_if=is_last_step,
        title="To",
        description="Share of the steps after which it ends; 1: never.",
        json_schema_extra={"x-widget": "number"},
    ),
]


class ControlUse(Value):
    """A registered ControlNet, the image whose lines, depth or pose the render has to follow, and for how long.

    `start` and `end` are shares of the steps that a pass makes, as `step_window.window_steps` counts them.
    """

    model_id: Token = Field(title="ControlNet", json_schema_extra={"x-widget": "controlnet"})
    image: Sha256 = Field(
        title="Image to follow",
        description="SHA-256 of an upload or of an artifact.",
        json_schema_extra={"x-widget": "upload"},
    )
    scale: float = Field(
        default=1.0,
        ge=0,
        le=CONTROL_SCALE_MAX,
        allow_inf_nan=False,
        title="Scale",
        description="How strictly the render follows it.",
        json_schema_extra={"x-widget": "number"},
    )
    start: WindowStart = 0.0
    end: WindowEnd = 1.0
    preprocess: Preprocessing | None = Field(
        default=None,
        exclude_if=is_none,
        title="Preprocessing",
        description="What is made of the image before it is followed; by default nothing: it is a map already.",
    )


class ImagePromptUse(Value):
    """A registered IP-Adapter, the image that it shows the model beside the prompt, and for how long.

    It acts in every pass; `start` and `end` are shares of the steps that a pass makes, as those of a ControlNet.
    """

    model_id: Token = Field(title="IP-Adapter", json_schema_extra={"x-widget": "ip_adapter"})
    image: Sha256 = Field(
        title="Image",
        description="SHA-256 of an upload or of an artifact. Its middle square is seen.",
        json_schema_extra={"x-widget": "upload"},
    )
    scale: float = Field(
        default=1.0,
        ge=0,
        le=IMAGE_PROMPT_SCALE_MAX,
        allow_inf_nan=False,
        title="Scale",
        description="How much the image counts beside the prompt.",
        json_schema_extra={"x-widget": "number"},
    )
    start: WindowStart = 0.0
    end: WindowEnd = 1.0


#: Before there could be several, a request had one: it stood alone, or there was a null.
ControlUses = Annotated[tuple[ControlUse, ...], BeforeValidator(in_a_list)]


class MaskedArea(Value):
    """Only what lies around the mask is rendered, at the size of the render, and put back into the whole image."""

    padding_px: int = Field(ge=0)
    width_px: int = Field(ge=1, description="of the image, and so of the finished one")
    height_px: int = Field(ge=1, description="of the image, and so of the finished one")


class MaskedAreaInput(Value):
    """Only what lies around the mask is rendered, as a client requests it."""

    padding_px: int = Field(
        ge=0,
        le=SIDE_PX_MAX,
        title="Padding",
        description="How far around the mask the model sees the image, in pixels of the image.",
        json_schema_extra={"x-widget": "number"},
    )


class Upscale(Value):
    """A second pass: the image is enlarged and rendered again at this size."""

    width_px: int = Field(ge=SIDE_PX_MIN)
    height_px: int = Field(ge=SIDE_PX_MIN)
    strength: float = Field(
        default=UPSCALE_STRENGTH, gt=0, le=1, description="share of the steps that the second pass repeats"
    )
    factor: float | None = Field(
        default=None, ge=1, exclude_if=is_none, description="as it was requested, before the sides were rounded"
    )
    model_id: Token | None = Field(default=None, exclude_if=is_none, description="the upscaler that enlarges the image")
    method: UpscaleMethod | None = Field(
        default=None, exclude_if=is_none, description="how it is enlarged without one; None: lanczos"
    )
    tile_px: int | None = Field(
        default=None, ge=SIDE_PX_MIN, exclude_if=is_none, description="side of the tiles that are rendered; None: whole"
    )
    tile_overlap_px: int | None = Field(default=None, ge=0, exclude_if=is_none)
    tiled_px: int | None = Field(
        default=None, ge=1, exclude_if=is_none, description="pixels of all tiles together: what a step costs"
    )
    # What follows is None where the second pass has what the first one has.
    seed: Seed | None = Field(
        default=None, exclude_if=is_none, description="of the first image, as that of the request"
    )
    steps: int | None = Field(default=None, ge=1, exclude_if=is_none)
    guidance_scale: float | None = Field(default=None, ge=0, exclude_if=is_none)
    sampler: SamplerName | None = Field(default=None, exclude_if=is_none)
    prompt: str | None = Field(default=None, exclude_if=is_none)
    negative_prompt: str | None = Field(default=None, exclude_if=is_none)

    @property
    def tiles(self) -> tuple[Box, ...]:
        """What is rendered, tile by tile; empty: the whole image at once."""
        if self.tile_px is None:
            return ()
        return tuple(boxes(self.width_px, self.height_px, self.tile_px, self.tile_overlap_px or 0))

    @property
    def run_px(self) -> tuple[int, int]:
        """Width and height of what is rendered at once."""
        whole = self.width_px, self.height_px
        return whole if self.tile_px is None else (min(self.tile_px, whole[0]), min(self.tile_px, whole[1]))

    @property
    def rendered_px(self) -> int:
        """How many pixels each of its steps renders, over all tiles."""
        return self.tiled_px or self.width_px * self.height_px


# The fields of a second pass that are those of the request where they are left out, and bounded as those.
OF_BOTH_PASSES = ("seed", "steps", "guidance_scale", "sampler", "prompt", "negative_prompt")


class UpscaleInput(Value):
    """A second pass as a client requests it: the image is enlarged and rendered again at its new size."""

    factor: float = Field(
        ge=1,
        le=UPSCALE_FACTOR_MAX,
        allow_inf_nan=False,
        title="Factor",
        description="How many times each side is enlarged.",
        json_schema_extra={"x-widget": "number"},
    )
    strength: float | None = Field(
        default=None,
        ge=STRENGTH_MIN,
        le=1,
        allow_inf_nan=False,
        title="Strength",
        description=f"Share of the steps that are repeated; default {UPSCALE_STRENGTH}, or what makes one step.",
        json_schema_extra={"x-widget": "number"},
    )
    model_id: Token | None = Field(
        default=None,
        exclude_if=is_none,
        title="Upscaler",
        description="A registered upscaler that enlarges the image.",
        json_schema_extra={"x-widget": "upscaler"},
    )
    method: UpscaleMethod | None = Field(
        default=None,
        exclude_if=is_none,
        title="Enlarged by",
        description="How, without an upscaler: pixels (lanczos is the default) or latents.",
        json_schema_extra={"x-widget": "choice"},
    )
    tile_px: Annotated[int, Whole] | None = Field(
        default=None,
        ge=SIDE_PX_MIN,
        le=SIDE_PX_MAX,
        exclude_if=is_none,
        title="Tile",
        description="Side of the tiles in which a large image is rendered, in the memory of one; default: as a whole.",
        json_schema_extra={"x-widget": "number"},
    )
    tile_overlap_px: Annotated[int, Whole] | None = Field(
        default=None,
        ge=0,
        le=SIDE_PX_MAX,
        exclude_if=is_none,
        title="Overlap of tiles",
        description="How far tiles are blended, in pixels; default: an eighth of a tile.",
        json_schema_extra={"x-widget": "number"},
    )
    steps: Annotated[int, Whole] | None = Field(
        default=None,
        exclude_if=is_none,
        title="Steps",
        description="Denoising steps, of which the share is made; default: those of the first pass.",
        json_schema_extra={"x-widget": "number"},
    )
    guidance_scale: float | None = Field(
        default=None,
        exclude_if=is_none,
        allow_inf_nan=False,
        title="Guidance scale",
        description="Default: that of the first pass.",
        json_schema_extra={"x-widget": "number"},
    )
    sampler: SamplerName | None = Field(
        default=None,
        exclude_if=is_none,
        title="Sampler",
        description="Default: that of the first pass.",
        json_schema_extra={"x-widget": "choice"},
    )
    seed: Annotated[Seed, Whole] | None = Field(
        default=None,
        exclude_if=is_none,
        title="Seed",
        description="Of its noise; picture i has seed + i. Default: that of the first pass.",
        json_schema_extra={"x-widget": "number"},
    )
    prompt: Text | None = Field(
        default=None,
        exclude_if=is_none,
        title="Prompt",
        description="Default: that of the first pass. LoRAs act in both passes.",
        json_schema_extra={"x-widget": "textarea"},
    )
    negative_prompt: Text | None = Field(
        default=None,
        exclude_if=is_none,
        title="Negative prompt",
        description="Default: that of the first pass.",
        json_schema_extra={"x-widget": "textarea"},
    )


class Geometry(Value):
    """Where in a render batch an image was rendered: both are part of what makes its bytes."""

    size: int = Field(
        ge=2,
        le=GEOMETRY_SIZE_MAX,
        title="Size",
        description="How many images were rendered in one run.",
        json_schema_extra={"x-widget": "number"},
    )
    place: int = Field(
        ge=0,
        lt=GEOMETRY_SIZE_MAX,
        title="Place",
        description="Which of them this one was, from 0.",
        json_schema_extra={"x-widget": "number"},
    )

    @model_validator(mode="after")
    def _place_is_inside(self) -> Self:
        if self.place >= self.size:
            raise ValueError(f"place {self.place} is outside of {self.size} images, which are counted from 0")
        return self
