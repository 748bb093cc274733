"""From A1111's requests to the fields of a job. Pure: what has no counterpart here is refused by the name it was sent
with. What a client leaves out is the model's preset, not A1111's default: 512x512 is no size of every model.
"""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.pictures.samplers import AUTOMATIC, sampler_named, schedule_steps
from dreamforge.contracts.request.values import UPSCALE_STRENGTH
from dreamforge.gateway.facades.a1111.bodies import (
    NEUTRAL,
    NEUTRAL_SETTINGS,
    OWN_VAE,
    WITHOUT_EFFECT,
    A1111Generation,
    A1111Settings,
    ImageGeneration,
    Json,
    TextGeneration,
    not_neutral,
    read,
)
from dreamforge.gateway.facades.a1111.control import controls_of
from dreamforge.gateway.facades.a1111.images import image_in
from dreamforge.gateway.facades.a1111.names import (
    Models,
    named,
    pipelines,
    shown_samplers,
    title_of,
)
from dreamforge.gateway.facades.a1111.upscalers import upscaler_fields, upscaler_names
from dreamforge.gateway.http.errors import InvalidRequest, Violation, pointer
from dreamforge.gateway.submit.image_tasks import MaskChange

SETTINGS = "override_settings"
#: Our names of what A1111 calls otherwise, so that an error names what the client has sent.
A1111_NAMES = {
    "model_id": f"{SETTINGS}/sd_model_checkpoint",
    "images": "batch_size",
    "width_px": "width",
    "height_px": "height",
    "guidance_scale": "cfg_scale",
    "sampler": "sampler_name",
    "vae": f"{SETTINGS}/sd_vae",
    "clip_skip": f"{SETTINGS}/CLIP_stop_at_last_layers",
    "strength": "denoising_strength",
    "init_image": "init_images/0",
    "mask_image": "mask",
    "mask_fill": "inpainting_fill",
    "masked_area": "inpaint_full_res",
    "masked_area/padding_px": "inpaint_full_res_padding",
    "upscale/factor": "hr_scale",
    "upscale/strength": "denoising_strength",
    "upscale/steps": "hr_second_pass_steps",
    "upscale/sampler": "hr_sampler_name",
    "upscale/prompt": "hr_prompt",
    "upscale/negative_prompt": "hr_negative_prompt",
    "upscale/guidance_scale": "hr_cfg",
    "upscale/model_id": "hr_upscaler",
    "upscale/method": "hr_upscaler",
    "upscale": "enable_hr",
    "control": "alwayson_scripts/controlnet/args",
    "image_prompts": "alwayson_scripts/controlnet/args",
    "output_format": f"{SETTINGS}/samples_format",
    "output_quality": f"{SETTINGS}/jpeg_quality",
}
#: By number, what A1111 does with an image of another shape; 3 enlarges latents, which is not done here.
RESIZE_MODES = ("stretch", "crop", "fit")
#: By number, what A1111 puts below a mask before it renders.
MASK_FILLS = ("fill", "original", "noise", "nothing")
#: What A1111 takes where nothing is said.
DENOISING_STRENGTH, MASK_BLUR_PX, MASK_FILL, HR_SCALE = 0.75, 4.0, 0, 2.0
SAMPLES_FORMATS = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp", "avif": "avif"}
_SAME = frozenset(("", "Use same checkpoint", "Use same sampler", "Use same scheduler"))
_T = TypeVar("_T")


@dataclass(slots=True)
class A1111Request:
    """What a client wants: the fields of our job, the images they name, and how it wants the answer."""

    fields: dict[str, Any]
    images: dict[str, bytes] = field(default_factory=dict)
    """By the field of the job that names it."""
    unit_images: tuple[tuple[str, bytes], ...] = ()
    """Those of ControlNet's units, in their order, each with the list that its unit is in: control or image_prompts."""
    mask_change: MaskChange | None = None
    keeps_model: bool = False
    """Whether the model of `fields` is that of later requests, too."""
    sends_images: bool = True
    echoed: Json = field(default_factory=dict)


def from_text(body: Json, models: Models, selected: str | None) -> A1111Request:
    """`txt2img`. `selected`: the model of requests that name none. Errors: InvalidRequest, with all that is wrong."""
    asked = read(TextGeneration, body)
    wrong: list[Violation] = []
    made = _common(asked, models, selected, wrong)
    if asked.enable_hr:
        model = models.get(made.fields.get("model_id", ""))
        made.fields["upscale"] = {**_second_pass(asked, model, wrong), **_upscaler(asked, models, wrong)}
    _take_control(asked, made, models, wrong)
    return _checked(made, body, wrong)


def from_image(body: Json, models: Models, selected: str | None) -> A1111Request:
    """`img2img`, with and without a mask. Errors: InvalidRequest, with all that is wrong."""
    asked = read(ImageGeneration, body)
    wrong: list[Violation] = []
    made = _common(asked, models, selected, wrong)
    strength = DENOISING_STRENGTH if asked.denoising_strength is None else asked.denoising_strength
    made.fields |= {"strength": strength, "resize_mode": _resize_mode(asked, wrong)}
    images = asked.init_images or []
    if len(images) != 1:
        said = "is missing: send the image to start from" if not images else "has several images: one is rendered anew"
        wrong.append(Violation(said, pointer(("init_images",))))
    else:
        made.images["init_image"] = image_in(images[0], "init_images", 0)
    if asked.mask:
        made.images["mask_image"] = image_in(asked.mask, "mask")
        made.mask_change = _mask_change(asked)
        made.fields |= _of_mask(asked, wrong)
    _take_control(asked, made, models, wrong)
    return _checked(made, body, wrong)


def _common(asked: A1111Generation, models: Models, selected: str | None, wrong: list[Violation]) -> A1111Request:
    more = {name: value for name, value in (asked.model_extra or {}).items() if name not in WITHOUT_EFFECT}
    wrong += not_neutral(more, NEUTRAL)
    settings = asked.override_settings or A1111Settings()
    plain = {
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "steps": asked.steps,
        "guidance_scale": asked.cfg_scale,
        "width_px": asked.width,
        "height_px": asked.height,
        "seed": None if asked.seed == -1 else asked.seed,
        "seamless": "both" if asked.tiling else None,
    }
    fields: dict[str, Any] = {name: value for name, value in plain.items() if value is not None}
    fields |= _settings(settings, asked.clip_skip, wrong)
    if (images := (asked.batch_size or 1) * (asked.n_iter or 1)) != 1:
        fields["images"] = images
    model = _model(settings, models, selected, wrong)
    if model is not None and model.capabilities.is_video:
        says = f"{model.model_id!r} renders videos, and this API has images: submit it to POST /v1/jobs"
        wrong.append(Violation(says, pointer((SETTINGS, "sd_model_checkpoint"))))
    if model is not None:
        fields["model_id"] = model.model_id
        field_name = "sampler_name" if asked.sampler_name else "sampler_index"
        name = asked.sampler_name or asked.sampler_index or ""
        fields |= _sampler(field_name, name, asked.scheduler or "", model, wrong)
    if (vae := settings.sd_vae) is not None and vae not in OWN_VAE:
        fields |= _vae(vae, models, wrong)
    keeps = asked.override_settings_restore_afterwards is False and settings.sd_model_checkpoint is not None
    return A1111Request(fields, keeps_model=keeps, sends_images=asked.send_images is not False)


def _checked(made: A1111Request, body: Json, wrong: list[Violation]) -> A1111Request:
    if wrong:
        raise InvalidRequest(violations=tuple(wrong))
    images = () if body.get("include_init_images") else ("init_images", "mask")
    hidden = ("auth", "url", "alwayson_scripts", *images)
    made.echoed = {name: value for name, value in body.items() if name not in hidden}
    return made


def _settings(settings: A1111Settings, clip_skip: int | None, wrong: list[Violation]) -> dict[str, Any]:
    wrong += not_neutral(settings.model_extra or {}, NEUTRAL_SETTINGS, SETTINGS)
    fields: dict[str, Any] = {}
    layer = _first(settings.CLIP_stop_at_last_layers, clip_skip)
    if layer is not None and layer > 1:  # A1111 counts the last layer as 1
        fields["clip_skip"] = layer - 1
    if settings.samples_format is not None:
        name = settings.samples_format.casefold()
        if name in SAMPLES_FORMATS:
            fields["output_format"] = SAMPLES_FORMATS[name]
        else:
            says = f"is {name!r:.20}, but must be one of: {', '.join(SAMPLES_FORMATS)}"
            wrong.append(Violation(says, pointer((SETTINGS, "samples_format"))))
    if settings.jpeg_quality is not None and fields.get("output_format", "png") != "png":
        fields["output_quality"] = settings.jpeg_quality
    return fields


def _model(
    settings: A1111Settings, models: Models, selected: str | None, wrong: list[Violation]
) -> ModelDescriptor | None:
    """The model of a request: its own, else the selected one, else the first; None: there is none."""
    known = pipelines(models)
    if not settings.sd_model_checkpoint:
        return current_model(models, selected)
    found = named(settings.sd_model_checkpoint, known)
    if found is None:
        wrong.append(unknown_checkpoint(settings.sd_model_checkpoint, models, SETTINGS))
    return found


def _vae(name: str, models: Models, wrong: list[Violation]) -> dict[str, str]:
    known = [model for model in models.values() if model.kind == "vae"]
    if (found := named(name, known)) is not None:
        return {"vae": found.model_id}
    right = ", ".join((*OWN_VAE[1:3], *(each.model_id for each in known)))
    wrong.append(Violation(f"is {name!r:.80}, but must be one of: {right}", pointer((SETTINGS, "sd_vae"))))
    return {}


def current_model(models: Models, selected: str | None) -> ModelDescriptor | None:
    """The selected model while it is registered, else the default one; None where there is none."""
    known = pipelines(models)
    return next((model for model in known if model.model_id == selected), next(iter(known), None))


def unknown_checkpoint(name: str, models: Models, *where: str) -> Violation:
    """What is wrong with the name of a model."""
    known = ", ".join(map(title_of, pipelines(models))) or "none yet: start a runner that has one"
    return Violation(f"is {name!r:.80}, but must be one of: {known}", pointer((*where, "sd_model_checkpoint")))


def _sampler(
    field_name: str, name: str, scheduler: str, model: ModelDescriptor, wrong: list[Violation]
) -> dict[str, str]:
    """The model's own where the client leaves the choice."""
    if name.casefold() in AUTOMATIC:
        return {}
    found = sampler_named(name, scheduler, model.capabilities.samplers)
    if found is None:
        said = f"is {name!r:.40}" + ("" if scheduler.casefold() in AUTOMATIC else f" with schedule {scheduler!r:.40}")
        takes = shown_samplers(model.capabilities.samplers) or "only its own"
        says = f"{said}, but model {model.model_id} takes: {takes}; Automatic is its own"
        wrong.append(Violation(says, pointer((field_name,))))
        return {}
    return {"sampler": found}


def _second_pass(asked: TextGeneration, model: ModelDescriptor | None, wrong: list[Violation]) -> dict[str, Any]:
    """The fields of `upscale`."""
    if (asked.hr_checkpoint_name or "") not in _SAME:
        wrong.append(Violation("has no counterpart here: both passes have one model", pointer(("hr_checkpoint_name",))))
    plain = {
        "strength": asked.denoising_strength,
        "prompt": asked.hr_prompt or None,
        "negative_prompt": asked.hr_negative_prompt or None,
        "guidance_scale": asked.hr_cfg,
    }
    fields: dict[str, Any] = {name: value for name, value in plain.items() if value is not None}
    fields["factor"] = _factor(asked, wrong)
    if asked.hr_second_pass_steps:
        fields |= _steps_made(asked.hr_second_pass_steps, asked.denoising_strength)
    return fields | (_second_sampler(asked, model, wrong) if model is not None else {})


def _steps_made(steps: int, strength: float | None) -> dict[str, float]:
    """A1111 makes all of these steps within the part `denoising_strength` of the schedule, here it is part of them."""
    share = UPSCALE_STRENGTH if strength is None else strength
    # At 0, which the request refuses, there is no schedule.
    return {"steps": schedule_steps(steps, share) if share > 0 else steps, "strength": share}


def _second_sampler(asked: TextGeneration, model: ModelDescriptor, wrong: list[Violation]) -> dict[str, str]:
    name, schedule = asked.hr_sampler_name or "", asked.hr_scheduler or ""
    if name in _SAME and schedule in _SAME:
        return {}
    own = asked.sampler_name or asked.sampler_index or ""
    usual = (asked.scheduler or "") if name in _SAME else ""
    field_name = "hr_scheduler" if name in _SAME else "hr_sampler_name"
    found = own if name in _SAME else name
    return _sampler(field_name, found, usual if schedule in _SAME else schedule, model, wrong)


def _upscaler(asked: TextGeneration, models: Models, wrong: list[Violation]) -> dict[str, str]:
    fields = upscaler_fields(asked.hr_upscaler, models)
    if fields is None:
        says = f"is {asked.hr_upscaler!r:.60}, but must be one of: {', '.join(upscaler_names(models))}"
        wrong.append(Violation(says, pointer(("hr_upscaler",))))
    return fields or {}


def _factor(asked: TextGeneration, wrong: list[Violation]) -> float:
    """How many times each side is enlarged: by the sides it shall have, else by `hr_scale`."""
    sides = ((asked.hr_resize_x, asked.width), (asked.hr_resize_y, asked.height))
    targets = [(size, side) for size, side in sides if size]
    factors = {size / side for size, side in targets if side}
    if not targets:
        return _first(asked.hr_scale, HR_SCALE)
    if len(factors) != 1 or not all(side for _, side in targets):
        says = "must be as many times width as hr_resize_y is height, both given: the shape stays. Or send hr_scale"
        wrong.append(Violation(says, pointer(("hr_resize_x",))))
        return HR_SCALE
    return factors.pop()


def _resize_mode(asked: ImageGeneration, wrong: list[Violation]) -> str:
    mode = asked.resize_mode or 0
    if not 0 <= mode < len(RESIZE_MODES):
        wrong.append(Violation("must be 0 (resize), 1 (crop) or 2 (fill)", pointer(("resize_mode",))))
        return RESIZE_MODES[0]
    return RESIZE_MODES[mode]


def _mask_change(asked: ImageGeneration) -> MaskChange:
    x, y = (MASK_BLUR_PX if each is None else each for each in (asked.mask_blur_x, asked.mask_blur_y))
    return MaskChange(
        rounded=asked.mask_round is not False,
        inverted=bool(asked.inpainting_mask_invert),
        blur_x_px=_first(asked.mask_blur, x),
        blur_y_px=_first(asked.mask_blur, y),
    )


def _of_mask(asked: ImageGeneration, wrong: list[Violation]) -> dict[str, Any]:
    """What lies below the mask, and how much is rendered: only the masked area where nothing is said, as there."""
    number = _first(asked.inpainting_fill, MASK_FILL)
    fields: dict[str, Any] = {}
    if 0 <= number < len(MASK_FILLS):
        fields["mask_fill"] = MASK_FILLS[number]
    else:
        says = "must be 0 (fill), 1 (original), 2 (latent noise) or 3 (latent nothing)"
        wrong.append(Violation(says, pointer(("inpainting_fill",))))
    if asked.inpaint_full_res is not False:
        fields["masked_area"] = {"padding_px": asked.inpaint_full_res_padding or 0}
    return fields


def _take_control(asked: A1111Generation, made: A1111Request, models: Models, wrong: list[Violation]) -> None:
    units = controls_of(asked.alwayson_scripts or {}, models, default_image=made.images.get("init_image"))
    made.unit_images = tuple((unit.into, unit.image) for unit in units)
    for unit in units:
        made.fields.setdefault(unit.into, []).append(unit.fields)
        mode = unit.resize_mode
        if mode is not None and made.fields.setdefault("resize_mode", mode) != mode:
            says = "must be that of the request: one way holds for all its images"
            wrong.append(Violation(says, pointer((*unit.where, "resize_mode"))))


def _first(value: _T | None, other: _T) -> _T:
    """The first that is given."""
    return other if value is None else value
