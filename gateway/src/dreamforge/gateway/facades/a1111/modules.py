"""Preprocessors of ControlNet's units, by the names of A1111's extension. Pure.

Source of names, and of what `threshold_a` and `threshold_b` are of each: scripts/supported_preprocessor.py and
scripts/preprocessor of sd-webui-controlnet 1.1. Its canny is OpenCV's, which does not smooth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dreamforge.contracts.request.preprocessing import SIGMA_PX_MAX, PreprocessorName
from dreamforge.gateway.facades.a1111.bodies import ControlUnit
from dreamforge.gateway.http.errors import Violation, pointer

Json = dict[str, Any]  # Any: JSON
NONE = "none"
# What an IP-Adapter sees an image with belongs to it; the extension names it, and this name leaves the choice to it.
ADAPTER, ADAPTER_AUTO = "ip-adapter", "ip-adapter-auto"


@dataclass(frozen=True, slots=True)
class Slider:
    """A number of a module: our name for it, A1111's words, default and bounds there."""

    setting: str
    name: str
    value: float
    minimum: float
    maximum: float
    step: float = 1.0


@dataclass(frozen=True, slots=True)
class Module:
    """A preprocessor: what it is here, with what is always said, and what `threshold_a` and `threshold_b` are."""

    name: PreprocessorName
    sliders: tuple[Slider, ...] = ()
    always: Mapping[str, float] | None = None


_LOW = Slider("low", "Low Threshold", 100, 1, 255)
_HIGH = Slider("high", "High Threshold", 200, 1, 255)
MODULES: Mapping[str, Module] = {
    "canny": Module("canny", (_LOW, _HIGH), {"sigma_px": 0.0}),
    "lineart_standard": Module("lineart"),
    "invert": Module("invert"),
    "tile_resample": Module("tile", (Slider("factor", "Down Sampling Rate", 1.0, 1.0, 8.0, 0.01),)),
    "blur_gaussian": Module("blur", (Slider("sigma_px", "Sigma", 9.0, 0.01, SIGMA_PX_MAX, 0.01),)),
    "grayscale": Module("grayscale"),
}


def preprocessing_of(unit: ControlUnit, wrong: list[Violation], where: tuple[str | int, ...]) -> Json | None:
    """`preprocess` of a unit; None: its image is a map already. What there is not is added to `wrong`."""
    name = (unit.module or NONE).casefold()
    if name == NONE:
        return None
    module = MODULES.get(name.partition(" (")[0])  # "invert (from white bg & black line)"
    if module is None:
        says = f"is {unit.module!r:.60}, but must be one of: {', '.join((NONE, *MODULES))}; or send a map as the image"
        wrong.append(Violation(says, pointer((*where, "module"))))
        return None
    said = zip(module.sliders, (unit.threshold_a, unit.threshold_b), strict=False)
    # Below 0 is the default, as clients say that they set none.
    settings = {each.setting: each.value if value is None or value < 0 else value for each, value in said}
    return {"name": module.name, **(module.always or {}), **settings}


def check_module_of_adapter(unit: ControlUnit, wrong: list[Violation], where: tuple[str | int, ...]) -> None:
    """Of a unit whose model is an IP-Adapter: it has an encoder of its own, and none that finds faces."""
    name = (unit.module or NONE).casefold()
    if name != NONE and (not name.startswith(ADAPTER) or "face" in name):
        says = f"is {unit.module!r:.60}, but must be {ADAPTER_AUTO} or {NONE}: an IP-Adapter has an encoder of its own"
        wrong.append(Violation(says, pointer((*where, "module"))))


def module_list() -> Json:
    """Names, and the sliders of each behind that of the resolution, which is none: it is the render's."""
    details = {name: _detail(each) for name, each in MODULES.items()} | {ADAPTER_AUTO: _NO_SLIDERS}
    return {"module_list": [NONE, *details], "module_detail": details}


_NO_SLIDERS: Json = {"model_free": False, "sliders": []}


def _detail(module: Module) -> Json:
    sliders = [
        {"name": each.name, "value": each.value, "min": each.minimum, "max": each.maximum, "step": each.step}
        for each in module.sliders
    ]
    return {"model_free": False, "sliders": [None, *sliders]}
