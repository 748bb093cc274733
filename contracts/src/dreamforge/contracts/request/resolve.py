"""From what a client said to a complete request: defaults are filled in, bounds are checked. Pure."""

from dataclasses import dataclass

from dreamforge.contracts.errors import (
    FieldNeeded,
    NotAllowed,
    NotAPipeline,
    OutOfBounds,
    SizeNotSupported,
    UnknownModel,
    UnknownPreset,
)
from dreamforge.contracts.models.descriptor import ModelDescriptor, Parameters, Preset, SamplerName
from dreamforge.contracts.request.assets import check_assets
from dreamforge.contracts.request.capabilities import (
    IMAGE_STRENGTH,
    INPAINT_STRENGTH,
    STRENGTH_MIN,
    UPSCALE_STRENGTH,
    guidance_bounds,
    least_strength,
    parameters_of,
    steps_bound,
)
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import ControlUse, LoraUse, RenderRequest, Upscale

# An error that quotes a prompt quotes this much of it.
SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class UpscaleWish:
    """A second pass as the client said it; `resolve` makes it a size."""

    factor: float
    strength: float | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """A request as the client said it: None where a preset or the model shall decide."""

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
    sampler: SamplerName | None = None
    init_image: str | None = None
    mask_image: str | None = None
    strength: float | None = None
    loras: tuple[LoraUse, ...] = ()
    control: ControlUse | None = None
    upscale: UpscaleWish | None = None


def resolve(wish: Wish, models: dict[str, ModelDescriptor], limits: Limits) -> RenderRequest:
    """Fill a wish from its preset and check it against model and limits. Pure.

    The default model is the pipeline that was registered first, the default preset the model's first.
    Errors: UnknownModel, NotAPipeline, UnknownPreset, OutOfBounds(field, value, minimum, maximum), SizeNotSupported,
    NotAllowed, FieldNeeded, UnknownAsset, AssetMismatch, NamedTwice.
    """
    model, preset = _asked(wish, models)
    parameters = parameters_of(model)
    width_px = preset.width_px if wish.width_px is None else wish.width_px
    height_px = preset.height_px if wish.height_px is None else wish.height_px
    steps = preset.steps if wish.steps is None else wish.steps
    guidance_scale = preset.guidance_scale if wish.guidance_scale is None else wish.guidance_scale
    _check_size(width_px, height_px, model, limits)
    _within("prompt (characters)", len(wish.prompt), 1, limits.prompt_chars)
    _within("negative_prompt (characters)", len(wish.negative_prompt), 0, limits.prompt_chars)
    _within("steps", steps, 1, steps_bound(parameters, limits))
    _within("images", wish.images, 1, limits.images)
    _within("guidance_scale", guidance_scale, *guidance_bounds(parameters, limits))
    _check_features(wish, model, parameters)
    _check_strengths(wish, steps)
    check_assets(wish.loras, wish.control, model, models)
    return RenderRequest(
        model_id=model.model_id,
        preset=preset.name,
        prompt=wish.prompt,
        negative_prompt=wish.negative_prompt,
        width_px=width_px,
        height_px=height_px,
        steps=steps,
        guidance_scale=guidance_scale,
        seed=wish.seed,
        images=wish.images,
        sampler=wish.sampler,
        init_image=wish.init_image,
        mask_image=wish.mask_image,
        strength=_strength(wish, steps),
        loras=wish.loras,
        control=wish.control,
        upscale=_upscale(wish.upscale, (width_px, height_px), steps, model, limits),
    )


def _asked(wish: Wish, models: dict[str, ModelDescriptor]) -> tuple[ModelDescriptor, Preset]:
    pipelines = tuple(name for name, model in models.items() if model.kind == "pipeline")
    model_id = wish.model_id if wish.model_id is not None else next(iter(pipelines), "")
    model = models.get(model_id)
    if model is None:
        raise UnknownModel(model_id=model_id, known=pipelines)
    if model.kind != "pipeline":
        raise NotAPipeline(model_id=model_id, kind=model.kind, known=pipelines)
    preset = model.presets[0] if wish.preset is None else model.preset(wish.preset)
    if preset is None:
        raise UnknownPreset(preset=str(wish.preset), model_id=model_id, known=tuple(p.name for p in model.presets))
    return model, preset


def _within(field: str, value: float, minimum: float, maximum: float) -> None:
    if not minimum <= value <= maximum:
        raise OutOfBounds(field=field, value=value, minimum=minimum, maximum=maximum)


def _check_size(width_px: int, height_px: int, model: ModelDescriptor, limits: Limits) -> None:
    _within("width_px", width_px, model.side_px_min, model.side_px_max)
    _within("height_px", height_px, model.side_px_min, model.side_px_max)
    _within("pixels", width_px * height_px, 1, limits.pixels)
    multiple = model.size_multiple_px
    if width_px % multiple or height_px % multiple:
        raise SizeNotSupported(height_px=height_px, width_px=width_px, multiple_px=multiple)


def _check_features(wish: Wish, model: ModelDescriptor, parameters: Parameters) -> None:
    modes, model_id = parameters.modes, model.model_id
    if wish.negative_prompt and not parameters.negative_prompt:
        raise NotAllowed("negative_prompt", wish.negative_prompt[:SHOWN_CHARS], model_id)
    if wish.sampler is not None and wish.sampler not in parameters.samplers:
        raise NotAllowed("sampler", wish.sampler, model_id, parameters.samplers)
    if wish.mask_image is not None and "inpaint" not in modes:
        raise NotAllowed("mask_image", wish.mask_image, model_id)
    if wish.init_image is not None and set(modes) == {"text"}:
        raise NotAllowed("init_image", wish.init_image, model_id)
    _check_picture_fields(wish, parameters)
    if wish.loras and not parameters.loras_max:
        raise NotAllowed("loras", wish.loras[0].model_id, model_id)
    _within("loras (number)", len(wish.loras), 0, parameters.loras_max)
    if wish.control is not None and not parameters.controlnet:
        raise NotAllowed("control", wish.control.model_id, model_id)
    if wish.upscale is not None and parameters.upscale_max <= 1:
        raise NotAllowed("upscale", f"{wish.upscale.factor:g}", model_id)
    if wish.upscale is not None:
        _within("upscale/factor", wish.upscale.factor, 1, parameters.upscale_max)


def _check_picture_fields(wish: Wish, parameters: Parameters) -> None:
    if wish.init_image is None:
        for field, value in (("mask_image", wish.mask_image), ("strength", wish.strength)):
            if value is not None:
                raise FieldNeeded("init_image", because=f"{field} says how to change a picture")
        if "text" not in parameters.modes:
            raise FieldNeeded("init_image", because="this model starts from a picture")
    elif wish.mask_image is None and "image" not in parameters.modes:
        raise FieldNeeded("mask_image", because="this model only fills a part of a picture")


def _check_strengths(wish: Wish, steps: int) -> None:
    second = wish.upscale.strength if wish.upscale is not None else None
    for field, strength in (("strength", wish.strength), ("upscale/strength", second)):
        if strength is not None:
            _within(field, strength, STRENGTH_MIN, 1)
            if int(steps * strength) < 1:  # nothing would be painted
                _within(field, strength, least_strength(steps), 1)


def _strength(wish: Wish, steps: int) -> float | None:
    if wish.init_image is None or wish.strength is not None:
        return wish.strength
    usual = IMAGE_STRENGTH if wish.mask_image is None else INPAINT_STRENGTH
    return max(usual, least_strength(steps))


def _upscale(
    wish: UpscaleWish | None, size_px: tuple[int, int], steps: int, model: ModelDescriptor, limits: Limits
) -> Upscale | None:
    """The size of the second pass: each side times the factor, to the nearest multiple that the model takes."""
    if wish is None:
        return None
    multiple = model.size_multiple_px
    width, height = (round(side * wish.factor / multiple) * multiple for side in size_px)
    _within("upscale (pixels)", width * height, 1, limits.pixels)
    usual = max(UPSCALE_STRENGTH, least_strength(steps))
    strength = usual if wish.strength is None else wish.strength
    return Upscale(width_px=width, height_px=height, strength=strength, factor=wish.factor)
