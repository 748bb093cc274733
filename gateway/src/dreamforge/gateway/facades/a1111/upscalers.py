"""Upscalers by A1111's names: those of a second pass, and requests that enlarge a finished image. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.pictures.upscalers import A1111_METHODS
from dreamforge.gateway.facades.a1111.bodies import Json, not_neutral, read
from dreamforge.gateway.facades.a1111.names import Models, named
from dreamforge.gateway.http.errors import InvalidRequest, Violation, pointer

#: What A1111 takes where nothing is said: how many times, and the two sides.
RESIZE, RESIZE_SIDE_PX = 2.0, 512
BY_FACTOR, TO_SIZE = 0, 1
#: Faces are not restored and images of two upscalers not blended here; what asks for nothing is taken.
NEUTRAL_EXTRAS: Mapping[str, tuple[object, ...]] = {
    "show_extras_results": (0, 1),
    "gfpgan_visibility": (0,),
    "codeformer_visibility": (0,),
    "codeformer_weight": (0, 1),
    "extras_upscaler_2_visibility": (0,),
    "upscale_first": (0, 1),
}
#: Without effect while its visibility is 0.
_WITHOUT_EFFECT = frozenset(("upscaler_2", "image", "imageList"))


class Extras(BaseModel):
    """`extra-single-image`, and what `extra-batch-images` has beside its images."""

    model_config = ConfigDict(extra="allow")

    resize_mode: int | None = Field(default=None, ge=BY_FACTOR, le=TO_SIZE)
    upscaling_resize: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    upscaling_resize_w: int | None = Field(default=None, ge=1)
    upscaling_resize_h: int | None = Field(default=None, ge=1)
    upscaling_crop: bool | None = None
    upscaler_1: str | None = None


def upscalers_in(models: Models) -> tuple[ModelDescriptor, ...]:
    """Those that are registered."""
    return tuple(model for model in models.values() if model.kind == "upscaler")


def upscaler_fields(name: str | None, models: Models) -> dict[str, str] | None:
    """The fields of a second pass with the upscaler of this name; None: there is none."""
    if name is None or A1111_METHODS.get(name) == "lanczos":
        return {}
    if name in A1111_METHODS:
        return {"method": A1111_METHODS[name]}
    found = named(name, upscalers_in(models))
    return None if found is None else {"model_id": found.model_id}


def upscaler_names(models: Models) -> tuple[str, ...]:
    """What can be named for a second pass."""
    return (*A1111_METHODS, *(model.model_id for model in upscalers_in(models)))


def extras_of(body: Json, models: Models) -> tuple[Extras, ModelDescriptor]:
    """What shall be made of each image, and by which upscaler. Errors: InvalidRequest, with all that is wrong."""
    asked = read(Extras, body)
    more = {name: value for name, value in (asked.model_extra or {}).items() if name not in _WITHOUT_EFFECT}
    wrong = list(not_neutral(more, NEUTRAL_EXTRAS))
    model = named(asked.upscaler_1 or "", upscalers_in(models))
    if model is None:
        known = ", ".join(each.model_id for each in upscalers_in(models)) or "none yet: see `dreamforge models add`"
        says = f"is {asked.upscaler_1 or 'None'!r:.60}, but must be one of: {known}"
        wrong.append(Violation(says, pointer(("upscaler_1",))))
    if wrong or model is None:
        raise InvalidRequest(violations=tuple(wrong))
    return asked, model


def finished_size(asked: Extras, image_px: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the enlarged image, in pixels: as large as needed to cover the sides, and cropped to them.

    >>> finished_size(Extras(upscaling_resize=1.5), (100, 50))
    (150, 75)
    >>> to_size = Extras(resize_mode=1, upscaling_resize_w=80, upscaling_resize_h=80)
    >>> finished_size(to_size, (40, 20)), finished_size(to_size.model_copy(update={"upscaling_crop": False}), (40, 20))
    ((80, 80), (160, 80))
    """
    width, height = image_px
    if (asked.resize_mode or BY_FACTOR) == BY_FACTOR:
        factor = RESIZE if asked.upscaling_resize is None else asked.upscaling_resize
        return round(width * factor), round(height * factor)
    sides = asked.upscaling_resize_w or RESIZE_SIDE_PX, asked.upscaling_resize_h or RESIZE_SIDE_PX
    if asked.upscaling_crop is not False:
        return sides
    factor = max(sides[0] / width, sides[1] / height)
    return round(width * factor), round(height * factor)


def job_of(model: ModelDescriptor, sha256: str, size_px: tuple[int, int]) -> dict[str, Any]:
    """The fields of the job. Any: JSON."""
    width_px, height_px = size_px
    job = {"model_id": model.model_id, "prompt": "", "init_image": sha256, "resize_mode": "crop"}
    return {**job, "width_px": width_px, "height_px": height_px}
