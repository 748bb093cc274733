"""The arguments of a call, checked against the schema that the tool shows. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from dreamforge.gateway.facades.mcp.tools import SCHEMAS
from dreamforge.gateway.http.errors import InvalidRequest, Violation, pointer

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "object": dict,
}
SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def checked(tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are given; null counts as left out. Errors: InvalidRequest, with all that is wrong."""
    schema = SCHEMAS[tool]
    known: Mapping[str, Mapping[str, Any]] = schema["properties"]
    given = {name: value for name, value in arguments.items() if value is not None}
    wrong = [Violation("is missing", pointer((name,))) for name in schema["required"] if name not in given]
    for name, value in given.items():
        if name not in known:
            wrong.append(Violation(f"unknown argument; known: {', '.join(known)}", pointer((name,))))
        elif not _is(known[name]["type"], value):
            wrong.append(Violation(f"must be of type {known[name]['type']}", pointer((name,))))
    if wrong:
        raise InvalidRequest(violations=tuple(wrong))
    return given


def _is(kind: str, value: object) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def job_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job without its images. An argument and a parameter of the same name: the argument counts."""
    named = {name: given[name] for name in ("prompt", "model_id", "strength") if name in given}
    return {**given.get("parameters", {}), **named}
