"""The recipe of an image: everything that its bytes depend on, and nothing else.

It travels inside the PNG. No job id, no time, no host: the same recipe gives the same bytes, so the
content hash of an image is also the hash of its recipe's result.
"""

from typing import Literal

from dreamforge.contracts.events import Seed
from dreamforge.contracts.models import Sha256, Value
from dreamforge.gpu_runner.task import RenderTask

RendererName = Literal["diffusers", "synthetic"]


class Engine(Value):
    """What painted: the parts of a recipe that belong to the process and not to the request.

    Measured: thread count, dtype and processor each change single pixels, so they are part of the recipe.
    """

    renderer: RendererName
    device: Literal["cpu", "cuda"]
    #: GPU name, or on a CPU the instruction set that its kernels use ("AVX512").
    device_name: str
    dtype: str
    threads: int
    #: Package name to version, for those whose code decides pixels.
    versions: dict[str, str]


class Recipe(Value):
    """All that is needed to paint one image again, byte for byte."""

    format: Literal[1] = 1
    renderer: RendererName
    prompt: str
    negative_prompt: str
    seed: Seed
    width_px: int
    height_px: int
    steps: int
    guidance_scale: float
    #: The scheduler class in use, also when the request left the choice to the model.
    sampler: str
    model_id: str
    model_digest: Sha256
    pipeline: str
    device: Literal["cpu", "cuda"]
    device_name: str
    dtype: str
    threads: int
    versions: dict[str, str]


def recipe_for(task: RenderTask, seed: int, engine: Engine, *, pipeline: str, sampler: str) -> Recipe:
    """The recipe of the image that `seed` gives in `task` on `engine`."""
    return Recipe(
        renderer=engine.renderer,
        prompt=task.prompt,
        negative_prompt=task.negative_prompt,
        seed=seed,
        width_px=task.width_px,
        height_px=task.height_px,
        steps=task.steps,
        guidance_scale=task.guidance_scale,
        sampler=sampler,
        model_id=task.model_id,
        model_digest=task.model_digest,
        pipeline=pipeline,
        device=engine.device,
        device_name=engine.device_name,
        dtype=engine.dtype,
        threads=engine.threads,
        versions=engine.versions,
    )
