"""Units of the ControlNet extension in `alwayson_scripts`, with IP-Adapters, and the other scripts there. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.gateway.facades.a1111.bodies import ControlUnit, Json, not_neutral, read
from dreamforge.gateway.facades.a1111.images import image_in
from dreamforge.gateway.facades.a1111.modules import check_module_of_adapter, preprocessing_of
from dreamforge.gateway.facades.a1111.names import Models, control_title_of, named
from dreamforge.gateway.http.errors import InvalidRequest, Violation, pointer

Place = tuple[str | int, ...]
SCRIPTS, CONTROLNET = "alwayson_scripts", "controlnet"
CONTROLNET_NAMES = (CONTROLNET, "controlnet integrated")  # the second is Forge's
#: How an image of another shape is taken, by the extension's names of 1.1 and before, and by number.
RESIZE_MODES: Mapping[int | str, str] = {
    0: "stretch",
    1: "crop",
    2: "fit",
    "just resize": "stretch",
    "crop and resize": "crop",
    "scale to fit (inner fit)": "crop",
    "resize and fill": "fit",
    "envelope (outer fit)": "fit",
}
#: Of the memory of a card, or of the size that images are preprocessed at, which is that of the render.
_WITHOUT_EFFECT = frozenset(("low_vram", "lowvram", "processor_res", "pixel_perfect"))
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "mask": ("",),
    "mask_image": ("",),
    "guessmode": (0,),
    "control_mode": (0, "Balanced"),
    "hr_option": ("Both",),
    "inpaint_crop_input_image": (0, 1),
    "batch_images": ("", []),
    "use_preview_as_input": (0,),
    "generated_image": (),
}


@dataclass(frozen=True, slots=True)
class Control:
    """A unit: an item of a list of the job but for its image, the image, and the resize mode.

    `into`: the list, `control` or, of an IP-Adapter, `image_prompts`.
    """

    where: Place
    into: str
    fields: dict[str, Any]  # Any: JSON
    image: bytes
    resize_mode: str | None


def controls_of(scripts: Mapping[str, Json], models: Models, *, default_image: bytes | None) -> tuple[Control, ...]:
    """The units that are asked for, in their order.

    `default_image`: what a unit without an image follows. Errors: InvalidRequest.
    """
    wrong: list[Violation] = []
    units: list[tuple[Place, ControlUnit]] = []
    for name, script in scripts.items():
        arguments = script.get("args") or []
        if name.casefold() in CONTROLNET_NAMES:
            units += _enabled((SCRIPTS, name, "args"), arguments)
        elif _asks(arguments):
            wrong.append(Violation("is a script that is not served here: leave it out", pointer((SCRIPTS, name))))
    if wrong:
        raise InvalidRequest(violations=tuple(wrong))
    return tuple(_unit(where, unit, models, default_image) for where, unit in units)


def _enabled(where: Place, arguments: Any) -> Iterator[tuple[Place, ControlUnit]]:
    """The units that are not switched off. Any: JSON. Errors: InvalidRequest."""
    for index, argument in enumerate(arguments if isinstance(arguments, list) else [arguments]):
        if isinstance(argument, bool):  # of Forge's form: whether the script is on
            continue
        place = (*where, index)
        if not isinstance(argument, dict):
            raise InvalidRequest(violations=(Violation("must be an object: a unit of ControlNet", pointer(place)),))
        unit = read(ControlUnit, argument, *place)
        if unit.enabled is not False:
            yield place, unit


def _asks(arguments: Any) -> bool:
    """Whether a script with these arguments does anything: most begin with a switch. Any: JSON."""
    return bool(arguments) and not (isinstance(arguments, list) and arguments[0] in (False, None, "None"))


def _unit(where: Place, unit: ControlUnit, models: Models, default_image: bytes | None) -> Control:
    more = {name: value for name, value in (unit.model_extra or {}).items() if name not in _WITHOUT_EFFECT}
    wrong = list(not_neutral(more, _NEUTRAL, *where))
    nets = unit_models(models)
    net = named(unit.model or "", nets)
    is_adapter = net is not None and net.kind == "ip_adapter"
    preprocess = None
    if is_adapter:
        check_module_of_adapter(unit, wrong, where)
    else:
        preprocess = preprocessing_of(unit, wrong, where)
    if net is None:
        known = ", ".join(map(control_title_of, nets)) or "none is registered"
        wrong.append(Violation(f"is {unit.model!r:.60}, but must be one of: {known}", pointer((*where, "model"))))
    mode = unit.resize_mode.strip().casefold() if isinstance(unit.resize_mode, str) else unit.resize_mode
    if mode is not None and mode not in RESIZE_MODES:
        says = "must be 'Just Resize', 'Crop and Resize' or 'Resize and Fill'"
        wrong.append(Violation(says, pointer((*where, "resize_mode"))))
    image = _image(where, unit) or default_image
    if image is None:
        wrong.append(Violation("is missing: send the image to follow", pointer((*where, "image"))))
    if wrong or net is None or image is None:
        raise InvalidRequest(violations=tuple(wrong))
    said = {
        "scale": unit.weight,
        "start": unit.guidance_start or None,
        "end": unit.guidance if unit.guidance_end is None else unit.guidance_end,
        "preprocess": preprocess,
    }
    fields = {"model_id": net.model_id} | {name: value for name, value in said.items() if value is not None}
    if is_adapter:
        return Control(where, "image_prompts", fields, image, None)
    return Control(where, "control", fields, image, None if mode is None else RESIZE_MODES[mode])


def unit_models(models: Models) -> list[ModelDescriptor]:
    """What a unit may name: ControlNets, and adapters that show the model an image."""
    return [model for model in models.values() if model.kind in ("controlnet", "ip_adapter")]


def _image(where: Place, unit: ControlUnit) -> bytes | None:
    """Errors: InvalidRequest."""
    for name in ("image", "input_image"):
        given = getattr(unit, name)
        if isinstance(given, dict):
            if given.get("mask"):
                raise InvalidRequest(
                    violations=(Violation("has no counterpart here: leave it out", pointer((*where, name, "mask"))),)
                )
            given = given.get("image")
        if given:
            return image_in(given, *where, name)
    return None
