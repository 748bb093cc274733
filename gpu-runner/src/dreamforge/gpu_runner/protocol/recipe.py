"""The recipe of an image: everything that its bytes depend on, and nothing else.

It travels inside the PNG. No job id, no time, no host: the same recipe gives the same bytes, so the
content hash of an image is also the hash of its recipe's result.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_serializer

from dreamforge.contracts.lists import in_a_list
from dreamforge.contracts.models.descriptor import SamplerName, Sha256, Value, is_empty, is_none, is_zero
from dreamforge.contracts.models.optimisations import Optimisations
from dreamforge.contracts.request.values import Geometry, Seed
from dreamforge.gpu_runner.protocol.memory_rungs import Held
from dreamforge.gpu_runner.protocol.render_task import RenderTask

RendererName = Literal["diffusers", "synthetic"]
#: Fields of a request that decide no pixel of a single image: a preset is resolved, a seed stands for its image, and
#: geometry and optimisations in a recipe are those that the image was rendered with, whether asked for or not.
NOT_IN_RECIPES = frozenset({"preset", "images", "determinism", "geometry", "optimisations", "allow_quantised"})
#: Which rules turn an uploaded image into pixels. 2: those of `rendering.input_images`, and what a mask protects is
#: exact. Before there was a 2, Pillow's own conversions were used, and recipes say nothing.
IMAGE_RULES = 2


class Engine(Value):
    """What renders: the parts of a recipe that belong to the process and not to the request.

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
    text_weight: float | None = Field(default=None, exclude_if=is_none)


class ControlUsed(Value):
    """A ControlNet and its image, by content. Whatever else its request said of it follows as an extra."""

    model_config = ConfigDict(extra="allow")

    model_id: str
    digest: Sha256
    image: Sha256
    scale: float
    #: Hash of the map that a preprocessor made of the image: of its RGB bytes at the size of the render, row by row.
    map_sha256: Sha256 | None = Field(default=None, exclude_if=is_none)


class UpscaleUsed(Value):
    """The second pass at its size, with what enlarged the image, by content."""

    width_px: int
    height_px: int
    strength: float
    model_id: str | None = Field(default=None, exclude_if=is_none)
    digest: Sha256 | None = Field(default=None, exclude_if=is_none)
    method: str | None = Field(default=None, exclude_if=is_none)
    tile_px: int | None = Field(default=None, exclude_if=is_none)
    tile_overlap_px: int | None = Field(default=None, exclude_if=is_none)
    # What it has otherwise than the first pass.
    seed: Seed | None = Field(default=None, exclude_if=is_none)
    steps: int | None = Field(default=None, exclude_if=is_none)
    guidance_scale: float | None = Field(default=None, exclude_if=is_none)
    sampler: SamplerName | None = Field(default=None, exclude_if=is_none)
    prompt: str | None = Field(default=None, exclude_if=is_none)
    negative_prompt: str | None = Field(default=None, exclude_if=is_none)


class VaeUsed(Value):
    """A VAE by content."""

    model_id: str
    digest: Sha256


class TierUsed(Value):
    """How the model was held, as far as pixels can show it; its precision is the recipe's `dtype`."""

    name: str
    offload: str
    vae_tiling: bool
    float8_storage: bool = Field(default=False, exclude_if=is_zero)
    quantised: str | None = Field(default=None, exclude_if=is_none)
    #: The settings of the quantiser, where a request has chosen it.
    quantiser: str | None = Field(default=None, exclude_if=is_none)


class Recipe(Value):
    """All that is needed to render one image again, byte for byte.

    A parameter that an image does not use is left out, so that recipes from before it was offered stay as they are.
    The fields here fix the order of the first release. Every other parameter of `RenderRequest` follows as an extra
    under its own name (see `recipe_for`), so a new one needs no line here.
    """

    model_config = ConfigDict(extra="allow")

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
    #: Hashes of the uploaded images.
    init_image: Sha256 | None = Field(default=None, exclude_if=is_none)
    mask_image: Sha256 | None = Field(default=None, exclude_if=is_none)
    strength: float | None = Field(default=None, exclude_if=is_none)
    loras: tuple[LoraUsed, ...] = Field(default=(), exclude_if=is_empty)
    control: Annotated[tuple[ControlUsed, ...], BeforeValidator(in_a_list)] = Field(default=(), exclude_if=is_empty)
    #: The size of the finished image; width_px and height_px are those of the first pass.
    upscale: UpscaleUsed | None = Field(default=None, exclude_if=is_none)
    vae: VaeUsed | None = Field(default=None, exclude_if=is_none)
    tier: TierUsed | None = Field(default=None, exclude_if=is_none)
    #: See IMAGE_RULES; of a render that has uploaded images only.
    image_rules: int | None = Field(default=None, exclude_if=is_none)
    #: Size and place of the render batch; None: alone. What else was in the batch decides no byte of this image.
    geometry: Geometry | None = Field(default=None, exclude_if=is_none)
    #: Those that were in use, which a request, a preset or the runner named and the model has.
    optimisations: Optimisations | None = Field(default=None, exclude_if=is_none)

    @field_serializer("control")
    def _as_before(self, uses: tuple[ControlUsed, ...]) -> ControlUsed | tuple[ControlUsed, ...]:
        """A single one stands alone, as before there could be several: its picture keeps its bytes."""
        return uses[0] if len(uses) == 1 else uses


def recipe_for(
    task: RenderTask,
    seed: int,
    engine: Engine,
    *,
    pipeline: str,
    sampler: str,
    geometry: Geometry | None = None,
    maps: Sequence[str | None] = (),
    optimisations: Sequence[str] = (),
    quantiser: str | None = None,
) -> Recipe:
    """The recipe of the image that `seed` gives in `task` on `engine`, whose dtype is the one it was rendered in.

    `maps` has a hash for each ControlNet whose image was preprocessed; `quantiser` says what `quantisation` came to.
    """
    return Recipe.model_validate(
        _request_fields(task, seed, maps)
        | engine.model_dump()
        | {
            "seed": seed,
            "sampler": sampler,
            "model_digest": task.model.digest,
            "pipeline": pipeline,
            "strength": task.strength,
            "tier": _tier(task, engine, quantiser),
            "image_rules": IMAGE_RULES if task.request.uploads else None,
            "geometry": geometry,
            "optimisations": ",".join(optimisations) or None,
        }
    )


def _request_fields(task: RenderTask, seed: int, maps: Sequence[str | None]) -> dict[str, Any]:  # Any: of each
    """Every parameter of the request, with the digests of what it names by id."""
    request = task.request
    fields = request.model_dump(exclude=set(NOT_IN_RECIPES))
    if request.quantised_to is None:
        fields.pop("quantisation", None)  # "none" is what every image was before there was a choice
    if request.upscale is not None:
        fields["upscale"].pop("factor", None)  # how the size was asked for
        fields["upscale"].pop("tiled_px", None)  # follows from the rest
        fields["upscale"]["seed"] = request.second_seed(seed)
        if request.upscale.model_id is not None:
            fields["upscale"] = _with_digest(task, fields["upscale"])
    fields["loras"] = tuple(_with_digest(task, lora) for lora in fields.get("loras", ()))
    uses = fields.pop("control", ())
    fields["control"] = tuple(
        _with_digest(task, use) | {"map_sha256": made} for use, made in zip_longest(uses, maps[: len(uses)])
    )
    for name in {"embeddings", "image_prompts"} & fields.keys():
        fields[name] = tuple(_with_digest(task, use) for use in fields[name])
    if request.vae is not None:
        fields["vae"] = _with_digest(task, {"model_id": request.vae})
    return fields


def _with_digest(task: RenderTask, use: dict[str, Any]) -> dict[str, Any]:  # Any: see `_request_fields`
    return use | {"digest": task.assets[use["model_id"]].digest}


def _tier(task: RenderTask, engine: Engine, quantiser: str | None) -> TierUsed | None:
    held = task.held
    # On a CPU nothing waits elsewhere: there is one memory.
    held = held if engine.device == "cuda" else held.model_copy(update={"offload": "none"})
    # A model that is whole in memory renders as it would without tiers; that is most of them.
    if held == Held():
        return None
    return TierUsed(name=task.tier.name if task.tier else "full", **held.model_dump(), quantiser=quantiser)
