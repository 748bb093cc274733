"""Optimisations are read in any order and recorded in one; a wrong name is refused with those that there are."""

import pytest
from pydantic import TypeAdapter, ValidationError

from dreamforge.contracts.models.optimisations import Optimisations

READ: TypeAdapter[str] = TypeAdapter(Optimisations)


@pytest.mark.parametrize(
    ("said", "recorded"),
    [
        ("fused_projections,channels_last", "channels_last,fused_projections"),
        (" attention_flash ", "attention_flash"),
        ("none", "none"),
    ],
)
def test_one_choice_is_recorded_in_one_way(said: str, recorded: str) -> None:
    assert READ.validate_python(said) == recorded == READ.validate_python(recorded)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("", "'' is none of channels_last, fused_projections"),
        ("fast", "'fast' is none of channels_last"),
        ("none,channels_last", "none stands alone"),
        ("channels_last,channels_last", "named once"),
        ("attention_flash,attention_cudnn", "attention_cudnn or attention_flash"),
        ("channels_last," * 100, "at most 200 characters"),
    ],
)
def test_a_wrong_name_is_refused_with_what_would_be_right(said: str, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        READ.validate_python(said)
