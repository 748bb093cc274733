"""What pydantic found wrong, in the words that users read: the same in the API, the settings, the CLI and the log."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

Location = tuple[int | str, ...]
SHOWN_CHARS = 80


def describe_validation_error(
    error: ValidationError, *, known: Iterable[str] = (), show_values: bool = False, maximum: int | None = None
) -> list[tuple[Location, str]]:
    """(location, message) for each fault, at most `maximum`; messages begin in lower case and are no sentence.

    `known` names the fields that there are, for a field that is not one of them. `show_values` quotes what was given:
    never for settings, which hold passwords.
    """
    return describe_errors(error.errors(include_url=False)[:maximum], known=known, show_values=show_values)


def describe_errors(
    errors: Iterable[Mapping[str, Any]], *, known: Iterable[str] = (), show_values: bool = False
) -> list[tuple[Location, str]]:
    """The same for pydantic's error dictionaries, which FastAPI has too."""
    names = ", ".join(known)
    return [(tuple(each["loc"]), _message(each, names, show_values=show_values)) for each in errors]


def dotted(location: Location) -> str:
    """A location as a path.

    >>> dotted(("source", "files", 0))
    'source.files.0'
    """
    return ".".join(map(str, location))


def _message(error: Mapping[str, Any], known: str, *, show_values: bool) -> str:
    match error["type"]:
        case "missing":
            return "this field is required"
        case "extra_forbidden":
            return f"unknown field; known fields: {known}" if known else "unknown field"
    text = str(error["msg"]).removeprefix("Value error, ")
    value = error.get("input")
    shown = f" (it is {_shown(value)})" if show_values and isinstance(value, str | int | float | None) else ""
    return (text if text[:2].isupper() else text[:1].lower() + text[1:]) + shown  # the name of a setting stays


def _shown(value: str | float | None) -> str:
    """A value as its sender wrote it, shortened."""
    try:
        text = json.dumps(value)
    except ValueError:  # an integer of thousands of digits
        return "a very large number"
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "..."
