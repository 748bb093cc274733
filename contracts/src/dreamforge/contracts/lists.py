"""A value that stood alone before there could be several. Pure."""

from typing import Any


def in_a_list(value: Any) -> tuple[Any, ...]:  # Any: JSON, or what was made of it
    """What is written as a list, as one alone, or as null.

    >>> in_a_list({"model_id": "canny"}), in_a_list([1, 2]), in_a_list(None)
    (({'model_id': 'canny'},), (1, 2), ())
    """
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)
