"""What a job asks for: the request with every default resolved, and how long its owner waits."""

from typing import Annotated

from pydantic import Field

from dreamforge.contracts.models.descriptor import Mode, SamplerName, Sha256, Token, Value, is_empty, is_none

Seed = Annotated[int, Field(ge=0, le=2**53 - 1, description="exact in JSON and in every browser")]
# A picture has at least one latent a side.
SIDE_PX_MIN = 8
# A year: longer is no deadline, and far longer overflows dates.
DEADLINE_SECONDS_MAX = 366 * 86_400


class LoraUse(Value):
    """A registered LoRA, laid over the model with a weight."""

    model_id: Token
    weight: float = Field(default=1.0, ge=-4, le=4, allow_inf_nan=False)


class ControlUse(Value):
    """A registered ControlNet and the uploaded picture that it holds the render to."""

    model_id: Token
    image: Sha256
    scale: float = Field(default=1.0, ge=0, le=4, allow_inf_nan=False)


class Upscale(Value):
    """A second pass: the picture is enlarged and painted over at this size."""

    width_px: int = Field(ge=8)
    height_px: int = Field(ge=8)
    strength: float = Field(default=0.35, gt=0, le=1, description="share of the steps that the second pass repeats")
    factor: float | None = Field(
        default=None, ge=1, exclude_if=is_none, description="as it was asked for, before the sides were rounded"
    )


class RenderRequest(Value):
    """What to paint, with every default resolved at submission: the log never depends on later defaults.

    Uploaded pictures are named by the SHA-256 of their bytes.
    """

    model_id: Token
    preset: Token
    prompt: str
    negative_prompt: str = ""
    width_px: int = Field(ge=SIDE_PX_MIN)
    height_px: int = Field(ge=SIDE_PX_MIN)
    steps: int = Field(ge=1)
    guidance_scale: float = Field(ge=0)
    seed: Seed
    images: int = Field(default=1, ge=1)
    sampler: SamplerName | None = Field(default=None, exclude_if=is_none, description="None: the model's own")
    init_image: Sha256 | None = Field(default=None, exclude_if=is_none, description="upload to start from")
    mask_image: Sha256 | None = Field(default=None, exclude_if=is_none, description="upload; white is painted anew")
    strength: float | None = Field(
        default=None, gt=0, le=1, exclude_if=is_none, description="how much of `init_image` is painted over"
    )
    loras: tuple[LoraUse, ...] = Field(default=(), exclude_if=is_empty)
    control: ControlUse | None = Field(default=None, exclude_if=is_none)
    upscale: Upscale | None = Field(default=None, exclude_if=is_none)

    @property
    def mode(self) -> Mode:
        """What it starts from."""
        if self.init_image is None:
            return "text"
        return "image" if self.mask_image is None else "inpaint"

    @property
    def assets(self) -> tuple[str, ...]:
        """Ids of the LoRAs and the ControlNet that it needs beside its model."""
        control = (self.control.model_id,) if self.control is not None else ()
        return (*(lora.model_id for lora in self.loras), *control)

    @property
    def uploads(self) -> tuple[str, ...]:
        """Hashes of the uploads it needs, each once."""
        control = self.control.image if self.control is not None else None
        named = (self.init_image, self.mask_image, control)
        return tuple(dict.fromkeys(sha256 for sha256 in named if sha256 is not None))

    def seeds(self) -> tuple[int, ...]:
        """One seed an image: image i of a job is the job of one image with seed + i."""
        return tuple((self.seed + i) % 2**53 for i in range(self.images))


class Deadlines(Value):
    """How long its owner wants to wait, counted by the scheduler; None means for ever."""

    start_within_seconds: float | None = Field(
        default=None, gt=0, le=DEADLINE_SECONDS_MAX, description="from the request to the first step"
    )
    run_within_seconds: float | None = Field(
        default=None, gt=0, le=DEADLINE_SECONDS_MAX, description="of one attempt, from its start"
    )
