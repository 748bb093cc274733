"""Values that cross a border, and what they leave out of a payload."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Base of every frozen value that crosses a border."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64", protected_namespaces=()
    )


def is_one(value: object) -> bool:
    """Leaves a number out of a payload where it is what it always was."""
    return value == 1


def is_none(value: object) -> bool:
    """Fields that came after the first golden file stay out of the payload until they are used."""
    return value is None


def is_zero(value: object) -> bool:
    """The same for numbers."""
    return value == 0


def is_empty(value: object) -> bool:
    """The same for tuples and mappings."""
    return value in ((), {})


def is_blank(value: object) -> bool:
    """The same for texts."""
    return value == ""
