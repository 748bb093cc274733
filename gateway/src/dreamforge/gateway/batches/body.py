"""The body of `POST /v1/batches`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from dreamforge.contracts.request.batch import BATCH_JOBS_MAX, BatchTemplate, GridAxis
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.parameters import PARAMETERS
from dreamforge.contracts.request.values import Seed
from dreamforge.gateway.http.errors import InvalidRequest, Violation, pointer
from dreamforge.gateway.submit.body import Submission

NAMES = tuple(each.name for each in PARAMETERS)
AXES_MAX = 8


class PromptTemplates(BaseModel):
    """Prompts as dynamicprompts writes them: `{red|blue}`, `{2$$a|b|c}`, `__animal__`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: str | None = Field(default=None, min_length=1)
    negative_prompt: str | None = Field(default=None, min_length=1)

    def given(self) -> dict[str, str]:
        """Those that are given, by the parameter that they become."""
        return {name: text for name, text in self if text is not None}


class BatchSubmission(BaseModel):
    """Several jobs as one: what they have in common, and what each of them is given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    request: dict[str, JsonValue] = Field(
        default_factory=dict, description="the fields of `POST /v1/jobs` that all jobs have in common, taken literally"
    )
    template: PromptTemplates = Field(
        default=PromptTemplates(), description="prompts that are expanded, in place of those of `request`"
    )
    samples: int | None = Field(
        default=None, ge=1, le=BATCH_JOBS_MAX, description="so many random prompts; default: every combination"
    )
    template_seed: Seed | None = Field(default=None, description="of the random prompts; chosen for you by default")
    grid: dict[str, Annotated[list[JsonValue], Field(min_length=1, max_length=BATCH_JOBS_MAX)]] = Field(
        default_factory=dict,
        max_length=AXES_MAX,
        description="values of any parameters; a job for each combination, the last parameter changing fastest",
        examples=[{"steps": [10, 20], "guidance_scale": [3, 7]}],
    )
    seeds: Literal["same", "different"] | None = Field(
        default=None,
        description="whether all jobs begin with the same seed; default: different with `samples`, else the same",
    )

    def recorded(self, template_seed: int | None) -> BatchTemplate:
        """What the log says of it."""
        return BatchTemplate(
            request=self.request,
            template=self.template.given(),
            samples=self.samples,
            template_seed=template_seed,
            grid=self.axes(),
        )

    def axes(self) -> tuple[GridAxis, ...]:
        """The grid, in its order."""
        return tuple(GridAxis(parameter=name, values=tuple(values)) for name, values in self.grid.items())

    def place_of(self, name: str) -> tuple[str, ...]:
        """Where a field of a job stands in the body.

        >>> BatchSubmission(grid={"steps": [1, 2]}).place_of("steps")
        ('grid', 'steps')
        """
        if name in self.grid:
            return ("grid", name)
        return ("template" if name in self.template.given() else "request", name)

    def check(self, limits: Limits) -> None:
        """What concerns several fields. Errors: InvalidRequest."""
        found = [*self._said_twice(), *self._unknown(), *self._unfit(limits)]
        if not (self.template.given() or self.grid):
            found.append(Violation("has neither `template` nor `grid`: one job is requested by POST /v1/jobs", ""))
        if self.template_seed is not None and self.samples is None:
            found.append(Violation("is of random prompts: set `samples`, too", pointer(("template_seed",))))
        if self.samples is not None and not self.template.given():
            found.append(Violation("counts random prompts of `template`, which is missing", pointer(("samples",))))
        if found:
            raise InvalidRequest(violations=tuple(found))

    def _said_twice(self) -> list[Violation]:
        given = {"request": {*self.request}, "template": {*self.template.given()}, "grid": {*self.grid}}
        found = []
        for name in (*self.template.given(), *self.grid):
            places = [place for place, names in given.items() if name in names]
            if len(places) > 1:
                found.append(
                    Violation(f"is given in {' and '.join(places)}: give it once", pointer((places[-1], name)))
                )
        return found

    def _unknown(self) -> list[Violation]:
        known = {"grid": NAMES, "request": (*NAMES, *Submission.model_fields)}
        return [
            Violation(f"is not known here; known: {', '.join(names)}", pointer((place, name)))
            for place, names in known.items()
            for name in getattr(self, place)
            if name not in names
        ]

    def _unfit(self, limits: Limits) -> list[Violation]:
        found = []
        for name, text in self.template.given().items():
            if len(text) > limits.prompt_chars:
                message = f"may have {limits.prompt_chars} characters (it has {len(text)})"
                found.append(Violation(message, pointer(("template", name))))
            if "\0" in text:
                found.append(Violation("may not have the character U+0000", pointer(("template", name))))
        return found
