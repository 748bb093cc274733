"""What the child is asked to paint: a value with everything a render depends on, and nothing of the bus."""

from typing import Literal

from pydantic import Field

from dreamforge.contracts.events import Seed
from dreamforge.contracts.models import Sha256, Value

#: Sampler names we accept, each mapped to a diffusers scheduler in `samplers`.
SamplerName = Literal["ddim", "dpmpp_2m", "euler", "euler_a", "unipc"]


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
