"""The bounds of a request, explicit and configurable (`FORGE_LIMIT_*`), and the check that applies them."""

from dataclasses import dataclass

from pydantic import BaseModel, Field

from dreamforge.contracts.errors import OutOfBounds, SizeNotSupported, UnknownModel, UnknownPreset
from dreamforge.contracts.events import RenderRequest
from dreamforge.contracts.models import ModelDescriptor


class Limits(BaseModel):
    """What one request may ask for. Defaults fit one card; every one is a setting."""

    prompt_chars: int = Field(default=2_000, ge=1)
    pixels: int = Field(default=2048 * 2048, ge=64)
    steps: int = Field(default=150, ge=1)
    images: int = Field(default=16, ge=1)
    guidance_scale: float = Field(default=50.0, ge=0)
    body_bytes: int = Field(default=64 * 1024, ge=1024)
    open_jobs: int = Field(default=100_000, ge=1)
    open_jobs_per_tenant: int = Field(default=50_000, ge=1)


@dataclass(frozen=True, slots=True)
class Wish:
    """A request as the client said it: None where a preset shall decide."""

    prompt: str
    seed: int
    model_id: str | None = None
    preset: str | None = None
    negative_prompt: str = ""
    width_px: int | None = None
    height_px: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    images: int = 1


def resolve(wish: Wish, models: dict[str, ModelDescriptor], limits: Limits) -> RenderRequest:
    """Fill a wish from its preset and check it against model and limits. Pure.

    The default model is the first one registered, the default preset the model's first.
    Errors: UnknownModel, UnknownPreset, OutOfBounds(field, value, minimum, maximum), SizeNotSupported.
    """
    model_id = wish.model_id if wish.model_id is not None else next(iter(models), "")
    model = models.get(model_id)
    if model is None:
        raise UnknownModel(model_id=model_id, known=tuple(models))
    preset = model.presets[0] if wish.preset is None else model.preset(wish.preset)
    if preset is None:
        raise UnknownPreset(preset=str(wish.preset), model_id=model_id, known=tuple(p.name for p in model.presets))
    request = RenderRequest(
        model_id=model_id,
        preset=preset.name,
        prompt=wish.prompt,
        negative_prompt=wish.negative_prompt,
        width_px=preset.width_px if wish.width_px is None else wish.width_px,
        height_px=preset.height_px if wish.height_px is None else wish.height_px,
        steps=preset.steps if wish.steps is None else wish.steps,
        guidance_scale=preset.guidance_scale if wish.guidance_scale is None else wish.guidance_scale,
        seed=wish.seed,
        images=wish.images,
    )
    _check(request, model, limits)
    return request


def _check(request: RenderRequest, model: ModelDescriptor, limits: Limits) -> None:
    bounds: tuple[tuple[str, float, float, float], ...] = (
        ("prompt (characters)", len(request.prompt), 1, limits.prompt_chars),
        ("negative_prompt (characters)", len(request.negative_prompt), 0, limits.prompt_chars),
        ("width_px", request.width_px, model.side_px_min, model.side_px_max),
        ("height_px", request.height_px, model.side_px_min, model.side_px_max),
        ("pixels", request.width_px * request.height_px, 1, limits.pixels),
        ("steps", request.steps, 1, limits.steps),
        ("images", request.images, 1, limits.images),
        ("guidance_scale", request.guidance_scale, 0, limits.guidance_scale),
    )
    for field, value, minimum, maximum in bounds:
        if not minimum <= value <= maximum:
            raise OutOfBounds(field=field, value=value, minimum=minimum, maximum=maximum)
    multiple = model.size_multiple_px
    if request.width_px % multiple or request.height_px % multiple:
        raise SizeNotSupported(height_px=request.height_px, width_px=request.width_px, multiple_px=multiple)
