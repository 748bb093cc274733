"""The bodies of A1111's API, read as leniently as A1111 reads them: numbers may be text, null counts as left out.

What is named here is translated (`translate`, `settings_of`); the names that follow are taken with the values that
clients always send, and refused by name with any other. Source: modules/processing.py and modules/api/models.py of
A1111 1.10; `url`, `auth` and `clip_skip` are what SillyTavern adds to every request.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dreamforge.contracts.validation import describe_validation_error
from dreamforge.gateway.http.errors import VIOLATIONS_MAX, InvalidRequest, Violation, pointer

Json = Mapping[str, Any]  # Any: JSON

#: Without effect in A1111 as well, or about files on its disk: every image is stored here.
WITHOUT_EFFECT = frozenset(
    (
        *("subseed", "script_args", "refiner_switch_at", "image_cfg_scale", "seed_enable_extras", "force_task_id"),
        *("do_not_save_samples", "do_not_save_grid", "save_images", "url", "auth"),
    )
)
#: What has no counterpart here, and the values that ask for nothing: 0 is false, too.
NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "styles": ([],),
    "subseed_strength": (0,),
    "seed_resize_from_h": (0, -1),
    "seed_resize_from_w": (0, -1),
    "restore_faces": (0,),
    "eta": (0, 1),  # the defaults of its samplers: clients send one of them for all
    "s_churn": (0,),
    "s_tmin": (0,),
    "s_tmax": (0,),
    "s_noise": (1,),
    "s_min_uncond": (0,),
    "script_name": ("", "None"),
    "refiner_checkpoint": ("", "None"),
    "disable_extra_networks": (0,),
    "token_merging_ratio": (0,),
    "token_merging_ratio_hr": (0,),
    "firstphase_width": (0,),
    "firstphase_height": (0,),
    "firstpass_image": (),
    "infotext": ("",),
    "comments": ({},),
    "hr_additional_modules": ([], ["Use same choices"]),
    "initial_noise_multiplier": (1,),
    "latent_mask": (),
}
#: As `NEUTRAL`, of the settings of a request and of the options.
NEUTRAL_SETTINGS: Mapping[str, tuple[object, ...]] = {
    "forge_additional_modules": ([],),
    "eta_noise_seed_delta": (0,),
    "samples_save": (0, 1),
    "grid_save": (0, 1),
}

#: What leaves a model its own VAE.
OWN_VAE = ("", "None", "Automatic", "automatic")


class A1111Settings(BaseModel):
    """`override_settings`."""

    model_config = ConfigDict(extra="allow")

    sd_model_checkpoint: str | None = None
    CLIP_stop_at_last_layers: int | None = Field(default=None, ge=1)
    samples_format: str | None = None
    jpeg_quality: int | None = None
    sd_vae: str | None = None


class A1111Generation(BaseModel):
    """What `txt2img` and `img2img` have in common."""

    model_config = ConfigDict(extra="allow")

    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    batch_size: int | None = Field(default=None, ge=1)
    n_iter: int | None = Field(default=None, ge=1)
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = None
    height: int | None = None
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    denoising_strength: float | None = None
    clip_skip: int | None = None
    tiling: bool | None = None
    override_settings: A1111Settings | None = None
    override_settings_restore_afterwards: bool | None = None
    alwayson_scripts: dict[str, dict[str, Any]] | None = None
    send_images: bool | None = None


class TextGeneration(A1111Generation):
    """`txt2img`. The fields that begin with `hr_` count where `enable_hr` is set."""

    enable_hr: bool | None = None
    hr_scale: float | None = None
    hr_resize_x: int | None = None
    hr_resize_y: int | None = None
    hr_upscaler: str | None = None
    hr_second_pass_steps: int | None = None
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = None
    hr_negative_prompt: str | None = None
    hr_cfg: float | None = None  # Forge's


class ImageGeneration(A1111Generation):
    """`img2img`. The fields that begin with `inpaint` count where there is a mask."""

    init_images: list[str] | None = None
    resize_mode: int | None = None
    mask: str | None = None
    mask_blur: float | None = Field(default=None, ge=0)
    mask_blur_x: float | None = Field(default=None, ge=0)
    mask_blur_y: float | None = Field(default=None, ge=0)
    mask_round: bool | None = None
    inpainting_fill: int | None = None
    inpaint_full_res: bool | None = None
    inpaint_full_res_padding: int | None = Field(default=None, ge=0)
    inpainting_mask_invert: bool | None = None
    include_init_images: bool | None = None


class ControlUnit(BaseModel):
    """One unit of the ControlNet extension, under the names that its versions and clients use."""

    model_config = ConfigDict(extra="allow")

    enabled: bool | None = None
    module: str | None = None
    model: str | None = None
    weight: float | None = None
    image: str | dict[str, Any] | None = None
    input_image: str | dict[str, Any] | None = None
    resize_mode: int | str | None = None
    guidance_start: float | None = None
    guidance_end: float | None = None
    guidance: float | None = None
    threshold_a: float | None = None
    threshold_b: float | None = None


Body = TypeVar("Body", bound=BaseModel)


def read(kind: type[Body], fields: Json, *where: str | int) -> Body:
    """The fields as `kind` has them; `where` they stand in the body. Errors: InvalidRequest, with all that is wrong."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        found = describe_validation_error(error, maximum=VIOLATIONS_MAX)
        raise InvalidRequest(
            violations=tuple(Violation(says, pointer((*where, *place))) for place, says in found)
        ) from None


def not_neutral(more: Json, neutral: Mapping[str, tuple[object, ...]], *where: str | int) -> Iterator[Violation]:
    """What of these fields asks for something that is not served here."""
    for name, value in more.items():
        if value is None or (name in neutral and value in neutral[name]):
            continue
        at = pointer((*where, name))
        if not neutral.get(name):
            yield Violation("is not something that can be set here: leave it out", at)
        else:
            right = " or ".join(dict.fromkeys(repr(each) for each in neutral[name]))
            yield Violation(f"has no counterpart here: leave it out, or send {right}", at)
