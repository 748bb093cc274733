"""A guidance scale that changes from step to step. Pure."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from dreamforge.contracts.models.descriptor import Value, is_none
from dreamforge.contracts.request.step_window import window_steps

GuidanceShape = Literal["constant", "linear", "cosine"]
#: At this scale what the model predicts for the prompt is taken as it is: the negative prompt has no weight.
UNGUIDED = 1.0


class GuidanceSchedule(Value):
    """Steps in which a render is guided, and how the scale changes in them. Outside of them it is `UNGUIDED`.

    `start` and `end` are shares of the steps that a pass makes, as `step_window.window_steps` counts them. Inference
    without guidance in the first and last steps: Kynkäänniemi et al. 2024, arXiv:2404.07724.
    """

    shape: GuidanceShape = Field(
        title="Shape",
        description="constant: one scale; linear, cosine: from the guidance scale to another one.",
        json_schema_extra={"x-widget": "choice"},
    )
    to: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        exclude_if=is_none,
        title="To scale",
        description="The guidance scale of the last guided step, of linear and cosine.",
        json_schema_extra={"x-widget": "number"},
    )
    start: float = Field(
        default=0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        title="From",
        description="Share of the steps after which guidance begins; 0: at once.",
        json_schema_extra={"x-widget": "number"},
    )
    end: float = Field(
        default=1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        title="Until",
        description="Share of the steps after which guidance ends; 1: never.",
        json_schema_extra={"x-widget": "number"},
    )

    @model_validator(mode="after")
    def _only_what_changes_has_an_end(self) -> Self:
        if (self.to is None) != (self.shape == "constant"):
            wanted = "takes no `to`" if self.shape == "constant" else "needs `to`, the scale of its last guided step"
            raise ValueError(f"shape {self.shape!r} {wanted}")
        return self

    def changes(self, guidance_scale: float) -> bool:
        """Whether any step of any number of them could have another scale than this one."""
        return (self.start, self.end) != (0, 1) or self.to not in (None, guidance_scale)

    def scale_at(self, step: int, steps: int, guidance_scale: float) -> float:
        """The scale of one of so many steps, counted from 0, where the request has this guidance scale.

        >>> fading = GuidanceSchedule(shape="linear", to=1.0, end=0.75)
        >>> [fading.scale_at(step, 4, 5.0) for step in range(4)]
        [5.0, 3.0, 1.0, 1.0]
        """
        guided = window_steps(self.start, self.end, steps)
        if step not in guided:
            return UNGUIDED
        if self.to is None or len(guided) == 1:
            return guidance_scale
        share = (step - guided[0]) / (len(guided) - 1)
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return guidance_scale + (self.to - guidance_scale) * share
