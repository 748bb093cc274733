"""What the child is asked to paint: a value with everything a render depends on, and nothing of the bus."""

from pydantic import Field

from dreamforge.contracts.models.descriptor import Mode, SamplerName, Sha256, Tier, Value
from dreamforge.contracts.request.values import Seed

#: Paints over a little more than half: the picture is still known, its faults are gone.
DEFAULT_STRENGTH = 0.6


class InputImage(Value):
    """An uploaded picture on this runner's disk, checked against its hash before it got there."""

    path: str
    sha256: Sha256


class LoraTask(Value):
    """A LoRA to lay over the model for this task."""

    model_id: str
    path: str
    digest: Sha256
    weight: float


class ControlTask(Value):
    """A ControlNet, and the picture that it holds the render to."""

    model_id: str
    path: str
    digest: Sha256
    image: InputImage
    scale: float


class UpscaleTask(Value):
    """A second pass at this size."""

    width_px: int = Field(gt=0, le=16384)
    height_px: int = Field(gt=0, le=16384)
    strength: float = Field(gt=0, le=1)


class RenderTask(Value):
    """One attempt of one job, as the child sees it: one image per seed, each rendered alone.

    Images are never batched together: a batch of four differs in single pixels from four single renders,
    and the same recipe has to give the same bytes whatever else was asked for in the same job.
    """

    task_id: str = Field(min_length=1, max_length=200)
    model_id: str = Field(min_length=1, max_length=200)
    model_path: str
    model_digest: Sha256
    prompt: str
    negative_prompt: str = ""
    width_px: int = Field(gt=0, le=8192)
    height_px: int = Field(gt=0, le=8192)
    steps: int = Field(gt=0, le=1000)
    guidance_scale: float = Field(ge=0, le=100, allow_inf_nan=False)
    seeds: tuple[Seed, ...] = Field(min_length=1, max_length=1000)
    #: None takes the scheduler that the model was saved with.
    sampler: SamplerName | None = None
    init_image: InputImage | None = None
    mask_image: InputImage | None = None
    #: How much of `init_image` is painted over; None takes DEFAULT_STRENGTH.
    strength: float | None = Field(default=None, gt=0, le=1)
    loras: tuple[LoraTask, ...] = ()
    control: ControlTask | None = None
    upscale: UpscaleTask | None = None
    #: How the model is held in memory; None: whole, in the runner's own precision.
    tier: Tier | None = None
    #: Least time between two previews of an image; None: no previews.
    preview_seconds: float | None = Field(default=None, gt=0)

    @property
    def mode(self) -> Mode:
        """What it starts from."""
        if self.mask_image is not None:
            return "inpaint"
        return "text" if self.init_image is None else "image"

    @property
    def strength_used(self) -> float | None:
        """How much of `init_image` is painted over; None without one."""
        if self.init_image is None:
            return None
        return DEFAULT_STRENGTH if self.strength is None else self.strength

    @property
    def output_px(self) -> tuple[int, int]:
        """Width and height of the finished picture."""
        last = self.upscale or self
        return last.width_px, last.height_px
