"""The recipe of an image: everything that its bytes depend on, and nothing else.

It travels inside the PNG. No job id, no time, no host: the same recipe gives the same bytes, so the
content hash of an image is also the hash of its recipe's result.
"""

from typing import Literal

from pydantic import Field

from dreamforge.contracts.models.descriptor import Sha256, Tier, Value, is_empty, is_none
from dreamforge.contracts.request.values import Seed
from dreamforge.gpu_runner.protocol.render_task import RenderTask, UpscaleTask

RendererName = Literal["diffusers", "synthetic"]


class Engine(Value):
    """What painted: the parts of a recipe that belong to the process and not to the request.

    Measured: thread count, dtype and processor each change single pixels, so they are part of the recipe.
    """

    renderer: RendererName
    device: Literal["cpu", "cuda"]
    #: GPU name; of a CPU its model and the instruction set that kernels use ("AMD EPYC, AVX512").
    device_name: str
    dtype: str
    threads: int
    #: Package name to version, for those whose code decides pixels; `mkl_cbwr` is the mode that MKL's kernels run in.
    versions: dict[str, str]


class LoraUsed(Value):
    """A LoRA by content."""

    model_id: str
    digest: Sha256
    weight: float


class ControlUsed(Value):
    """A ControlNet and its picture, by content."""

    model_id: str
    digest: Sha256
    image: Sha256
    scale: float


class TierUsed(Value):
    """How the model was held, as far as pixels can show it; its precision is the recipe's `dtype`."""

    name: str
    offload: str
    vae_tiling: bool


class Recipe(Value):
    """All that is needed to paint one image again, byte for byte.

    What a picture does not use is left out, so that recipes from before it was offered stay as they are.
    """

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
    #: Hashes of the uploaded pictures.
    init_image: Sha256 | None = Field(default=None, exclude_if=is_none)
    mask_image: Sha256 | None = Field(default=None, exclude_if=is_none)
    strength: float | None = Field(default=None, exclude_if=is_none)
    loras: tuple[LoraUsed, ...] = Field(default=(), exclude_if=is_empty)
    control: ControlUsed | None = Field(default=None, exclude_if=is_none)
    #: The size of the finished picture; width_px and height_px are those of the first pass.
    upscale: UpscaleTask | None = Field(default=None, exclude_if=is_none)
    tier: TierUsed | None = Field(default=None, exclude_if=is_none)


def recipe_for(task: RenderTask, seed: int, engine: Engine, *, pipeline: str, sampler: str) -> Recipe:
    """The recipe of the image that `seed` gives in `task` on `engine`, whose dtype is the one it was painted in."""
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
        init_image=task.init_image.sha256 if task.init_image else None,
        mask_image=task.mask_image.sha256 if task.mask_image else None,
        strength=task.strength_used,
        loras=tuple(LoraUsed(model_id=lora.model_id, digest=lora.digest, weight=lora.weight) for lora in task.loras),
        control=_control(task),
        upscale=task.upscale,
        tier=_tier(task.tier, engine),
    )


def _control(task: RenderTask) -> ControlUsed | None:
    if (control := task.control) is None:
        return None
    return ControlUsed(
        model_id=control.model_id, digest=control.digest, image=control.image.sha256, scale=control.scale
    )


def _tier(tier: Tier | None, engine: Engine) -> TierUsed | None:
    if tier is None:
        return None
    # On a CPU nothing waits elsewhere: there is one memory.
    offload = tier.offload if engine.device == "cuda" else "none"
    # A model that is whole in memory paints as it would without tiers; that is most of them.
    if offload == "none" and not tier.vae_tiling:
        return None
    return TierUsed(name=tier.name, offload=offload, vae_tiling=tier.vae_tiling)
