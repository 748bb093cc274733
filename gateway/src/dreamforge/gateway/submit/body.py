"""The body of `POST /v1/jobs`: one strict model, whose bounds are the settings' own."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, create_model

from dreamforge.contracts.models.descriptor import SamplerName, Sha256, Token
from dreamforge.contracts.request.capabilities import CONTROL_SCALE_MAX, LORA_WEIGHT_MAX, STRENGTH_MIN, UPSCALE_STRENGTH
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import SIDE_PX_MIN, Seed

# No picture has a longer side; the model's descriptor says less. Keeps every number small enough for arithmetic.
SIDE_PX_MAX = 65_536


def _without_nul(text: str) -> str:
    """Postgres can store every character but this one, so it must not get into the log."""
    if "\x00" in text:
        raise ValueError("must not contain the character NUL (U+0000)")
    return text


def _whole(value: object) -> object:
    """JSON knows one kind of number: 64.0 is the integer 64."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
Text = Annotated[str, AfterValidator(_without_nul)]
Side = Annotated[int, Field(ge=SIDE_PX_MIN, le=SIDE_PX_MAX, description="default: what the preset says"), Whole]


# A month: longer waits are no deadlines, and every bound must fit a timedelta.
DEADLINE_SECONDS_MAX = 30 * 86_400.0
Seconds = Annotated[float, Field(gt=0, le=DEADLINE_SECONDS_MAX, allow_inf_nan=False)]


class DeadlineWish(BaseModel):
    """How long you want to wait; the job fails when a bound is passed. Null means for ever."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    start_within_seconds: Annotated[Seconds | None, Field(description="from now to the first step")] = None
    run_within_seconds: Annotated[Seconds | None, Field(description="of one attempt, from its start")] = None


# More than any model takes: keeps a body's list short before anything is looked up.
LORAS_MAX = 64
Strength = Annotated[float, Field(ge=STRENGTH_MIN, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=-LORA_WEIGHT_MAX, le=LORA_WEIGHT_MAX, allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=0, le=CONTROL_SCALE_MAX, allow_inf_nan=False)]
# What a model's own bound is, `/v1/models` says; no model goes beyond this.
Factor = Annotated[float, Field(ge=1, le=16, allow_inf_nan=False, description="of each side")]


class LoraWish(BaseModel):
    """A registered LoRA, laid over the model with a weight."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    model_id: Token
    weight: Weight = 1.0


class ControlWish(BaseModel):
    """A registered ControlNet, and the upload that holds the picture to its lines, depth or pose."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    model_id: Token
    image: Annotated[Sha256, Field(description="sha256 of an upload or of an artifact")]
    scale: Scale = 1.0


class EnlargeWish(BaseModel):
    """A second pass: the picture is enlarged and painted over at its new size."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    factor: Factor
    strength: Annotated[
        Strength | None,
        Field(description=f"share of the steps that are repeated; default {UPSCALE_STRENGTH}, or what makes one step"),
    ] = None


class Submission(BaseModel):
    """What to paint. What is left out (or null) is decided by the preset; a seed is chosen for you."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    prompt: Text
    negative_prompt: Text = ""
    model_id: Annotated[Token | None, Field(description="default: the model that was registered first")] = None
    preset: Annotated[Token | None, Field(description="default: the first preset of the model")] = None
    width_px: Side | None = None
    height_px: Side | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: Annotated[Seed | None, Field(description="picture i of the job is painted with seed + i"), Whole] = None
    images: int = 1
    sampler: Annotated[SamplerName | None, Field(description="default: the model's own")] = None
    init_image: Annotated[Sha256 | None, Field(description="sha256 of an upload or of an artifact, to start from")] = (
        None
    )
    mask_image: Annotated[
        Sha256 | None, Field(description="sha256 of an upload or of an artifact; what is white is painted anew")
    ] = None
    strength: Annotated[Strength | None, Field(description="how much of init_image is painted over")] = None
    loras: Annotated[tuple[LoraWish, ...], Field(max_length=LORAS_MAX)] = ()
    control: ControlWish | None = None
    upscale: EnlargeWish | None = None
    priority: Annotated[int, Field(ge=0, le=9, description="9 is the most urgent"), Whole] = 5
    deadlines: DeadlineWish | None = None


def submission_for(limits: Limits) -> type[Submission]:
    """The model with these limits in it, so that validation and the OpenAPI document cannot disagree."""
    fields: dict[str, Any] = {  # Any: types made at run time
        "prompt": (
            Annotated[
                str,
                StringConstraints(min_length=1, max_length=limits.prompt_chars),
                AfterValidator(_without_nul),
                Field(description="what the picture shows", examples=["a red circle on a blue background"]),
            ],
            ...,
        ),
        "negative_prompt": (
            Annotated[
                str,
                StringConstraints(max_length=limits.prompt_chars),
                AfterValidator(_without_nul),
                Field(description="what it must not show"),
            ],
            "",
        ),
        "steps": (Annotated[int, Field(ge=1, le=limits.steps, description="denoising steps"), Whole] | None, None),
        "guidance_scale": (
            Annotated[
                float,
                Field(
                    ge=0, le=limits.guidance_scale, allow_inf_nan=False, description="how closely to follow the prompt"
                ),
            ]
            | None,
            None,
        ),
        "images": (Annotated[int, Field(ge=1, le=limits.images, description="pictures of this job"), Whole], 1),
    }
    return create_model("Submission", __base__=Submission, __doc__=Submission.__doc__, **fields)
