"""How an image is changed before a ControlNet follows it: methods that need no model. Pure."""

from collections.abc import Mapping
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from dreamforge.contracts.models.descriptor import Value, is_none

PreprocessorName = Literal["canny", "lineart", "invert", "grayscale", "blur", "tile"]
#: What each one can be told, with its defaults: `low` and `high` are OpenCV's usual thresholds of Canny, `sigma_px` is
#: what kornia smooths with before Canny, and for the others what shows at 512 to 1024 pixels.
SETTINGS: Mapping[PreprocessorName, Mapping[str, float]] = {
    "canny": {"low": 100.0, "high": 200.0, "sigma_px": 1.0},
    "lineart": {"sigma_px": 6.0},
    "invert": {},
    "grayscale": {},
    "blur": {"sigma_px": 8.0},
    "tile": {"factor": 4.0},
}
# Sobel's largest gradient of 8-bit values: 4 * 255 in both directions.
GRADIENT_MAX = 1443.0
SIGMA_PX_MAX = 64.0
TILE_FACTOR_MAX = 64.0


class Preprocessing(Value):
    """A preprocessor by name, and its settings; a request that leaves one out gets the method's own."""

    name: PreprocessorName = Field(
        title="Preprocessor",
        description="canny and lineart: white lines on black; tile: as if it was made smaller and larger again.",
    )
    low: float | None = Field(
        default=None,
        ge=0,
        le=GRADIENT_MAX,
        allow_inf_nan=False,
        exclude_if=is_none,
        title="Low threshold",
        description="Of canny: a weaker edge is none. Gradients of 8-bit values by Sobel.",
        json_schema_extra={"x-widget": "number"},
    )
    high: float | None = Field(
        default=None,
        ge=0,
        le=GRADIENT_MAX,
        allow_inf_nan=False,
        exclude_if=is_none,
        title="High threshold",
        description="Of canny: each line has an edge at least so strong.",
        json_schema_extra={"x-widget": "number"},
    )
    sigma_px: float | None = Field(
        default=None,
        ge=0,
        le=SIGMA_PX_MAX,
        allow_inf_nan=False,
        exclude_if=is_none,
        title="Blur (px)",
        description="Of canny, lineart and blur: standard deviation, at the size of the render.",
        json_schema_extra={"x-widget": "number"},
    )
    factor: float | None = Field(
        default=None,
        ge=1,
        le=TILE_FACTOR_MAX,
        allow_inf_nan=False,
        exclude_if=is_none,
        title="Times smaller",
        description="Of tile.",
        json_schema_extra={"x-widget": "number"},
    )

    @model_validator(mode="after")
    def _takes_its_own_settings(self) -> Self:
        takes = SETTINGS[self.name]
        for name in _names():
            if getattr(self, name) is not None and name not in takes:
                raise ValueError(f"{name} is no setting of {self.name}, which has {', '.join(takes) or 'none'}")
        if self.name == "canny" and self.setting("low") > self.setting("high"):
            raise ValueError(f"low is {self.setting('low'):g}, but must be at most high, {self.setting('high'):g}")
        return self

    def setting(self, name: str) -> float:
        """A setting of this method, or its default. Errors: KeyError for one of another method."""
        given: float | None = getattr(self, name)
        return SETTINGS[self.name][name] if given is None else given

    def completed(self) -> Self:
        """With every setting said, so that the log never depends on later defaults.

        >>> Preprocessing(name="canny", high=300).completed()
        Preprocessing(name='canny', low=100.0, high=300.0, sigma_px=1.0, factor=None)
        """
        return self.model_copy(update={name: self.setting(name) for name in SETTINGS[self.name]})


def preprocessors() -> tuple[PreprocessorName, ...]:
    """The names of all."""
    return get_args(PreprocessorName)


def _names() -> tuple[str, ...]:
    return tuple(name for name in Preprocessing.model_fields if name != "name")
