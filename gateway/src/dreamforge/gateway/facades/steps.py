"""How far a job is, by its last step. Pure."""

from collections.abc import Mapping
from typing import Any


def steps_done(step: Mapping[str, Any]) -> tuple[int, int]:  # Any: JSON of a `StepProgressed`
    """Steps that were made and steps there are, over all images of the job.

    >>> steps_done({"image_index": 1, "images": 4, "step": 2, "steps": 10, "together": 3})
    (16, 40)
    """
    before = step["image_index"] * step["steps"]
    return before + step["step"] * step.get("together", 1), step["steps"] * step["images"]
