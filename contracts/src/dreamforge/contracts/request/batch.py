"""Several jobs that were requested as one: what was asked for, and the place of each job in it. Pure.

The batch has no events of its own: its jobs are appended together, each says its place, and the first says what was
asked for. So the batch is a fold of its jobs.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

from pydantic import Field, JsonValue

from dreamforge.contracts.models.descriptor import Value, is_none
from dreamforge.contracts.request.errors import BatchTooLarge

Values = dict[str, Any]  # Any: JSON, checked as the body of each job
# One atomic append takes up to 1,000 messages, and another group of appends may share it (`runtime.log.group_commit`).
BATCH_JOBS_MAX = 500


class GridAxis(Value):
    """A parameter, and its values, in order."""

    parameter: str
    values: tuple[JsonValue, ...]


class BatchTemplate(Value):
    """What a batch was asked for: the request as it was sent, the templates of its prompts, the grid."""

    request: dict[str, JsonValue] = Field(description="what all jobs have in common")
    template: dict[str, str] = Field(default_factory=dict, description="prompt and negative_prompt, as templates")
    samples: int | None = Field(default=None, description="random prompts of the templates; null: every combination")
    template_seed: int | None = Field(default=None, description="of the random prompts")
    grid: tuple[GridAxis, ...] = Field(default=(), description="the last one changes fastest")


class BatchPlace(Value):
    """Which job of which batch a job is."""

    batch_id: str
    index: int = Field(ge=0, lt=BATCH_JOBS_MAX)
    jobs: int = Field(ge=1, le=BATCH_JOBS_MAX, description="how many jobs the batch has")
    chosen: dict[str, JsonValue] = Field(description="what this job was given by the templates and the grid")
    batch: BatchTemplate | None = Field(
        default=None, exclude_if=is_none, description="what was asked for; of the first job"
    )


def expand(prompts: Sequence[Mapping[str, str]], grid: Sequence[GridAxis], maximum: int) -> tuple[Values, ...]:
    """What each job is given: every prompt with every combination of the grid, the last axis changing fastest.

    `prompts` are those of the templates, one that is empty where there is none. Errors: BatchTooLarge.

    >>> expand([{}], [GridAxis(parameter="steps", values=(1, 2))], 10)
    ({'steps': 1}, {'steps': 2})
    """
    jobs = len(prompts) * prod(len(axis.values) for axis in grid)
    if jobs > maximum:
        raise BatchTooLarge(jobs=jobs, maximum=maximum)
    names = [axis.parameter for axis in grid]
    combinations = list(product(*(axis.values for axis in grid)))
    return tuple({**prompt, **dict(zip(names, each, strict=True))} for prompt in prompts for each in combinations)
