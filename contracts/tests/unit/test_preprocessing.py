"""A preprocessor takes its own settings, and every one is said in what is recorded."""

from typing import Any

import pytest
from pydantic import ValidationError

from dreamforge.contracts.request.preprocessing import SETTINGS, Preprocessing, preprocessors


@pytest.mark.parametrize("name", preprocessors())
def test_what_is_recorded_says_every_setting(name: str) -> None:
    completed = Preprocessing.model_validate({"name": name}).completed()
    assert completed.model_dump() == {"name": name} | SETTINGS[completed.name]
    assert completed.completed() == completed == Preprocessing.model_validate_json(completed.model_dump_json())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "depth"}, "should be 'canny', 'lineart', 'invert', 'grayscale', 'blur' or 'tile'"),
        ({"name": "blur", "low": 5}, "low is no setting of blur, which has sigma_px"),
        ({"name": "invert", "factor": 2}, "factor is no setting of invert, which has none"),
        ({"name": "canny", "low": 250}, "low is 250, but must be at most high, 200"),
        ({"name": "canny", "high": 2000}, "less than or equal to 1443"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Preprocessing.model_validate(given)
