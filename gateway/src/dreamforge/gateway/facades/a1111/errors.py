"""Errors as A1111's clients read them."""

import re
from collections.abc import Mapping

from dreamforge.gateway.facades.a1111.translate import A1111_NAMES
from dreamforge.gateway.http.errors import Violation
from dreamforge.gateway.http.problems import Problem

_OURS = re.compile(rf"({'|'.join(map(re.escape, sorted(A1111_NAMES, key=len, reverse=True)))})\b")


def a1111_error(problem: Problem) -> Mapping[str, object]:
    """`{"error", "detail", "body", "errors"}`: what it was, what is wrong with the first field, and all that is wrong.

    Fields have A1111's names.
    """
    lines = [_line(error) for error in problem.errors]
    return {
        "error": problem.title,
        "detail": _more(lines) if lines else problem.detail,
        "body": "",
        "errors": "; ".join(dict.fromkeys(lines or [problem.detail])),
    }


def a1111_name(pointer: str) -> str:
    """The name of a field of ours, as A1111 has it.

    >>> a1111_name("/width_px"), a1111_name("/control/0/model_id"), a1111_name("/override_settings/sd_vae")
    ('width', 'alwayson_scripts.controlnet.args.0.model_id', 'override_settings.sd_vae')
    """
    path = pointer.removeprefix("/")
    found = _OURS.match(path)
    return (A1111_NAMES[found[1]] + path[found.end() :] if found else path).replace("/", ".")


def _more(lines: list[str]) -> str:
    return lines[0] + (f" (and {len(lines) - 1} more)" if len(lines) > 1 else "")


def _line(error: Violation) -> str:
    """One violation with the name before it; texts that begin with our name for the field lose that."""
    if error.pointer is None:
        return f"{error.field} {error.detail}"
    ours = error.pointer.removeprefix("/")
    detail = error.detail.removeprefix(f"{ours} ")
    name = a1111_name(error.pointer) or "the body"
    return f"{name} {detail}" if detail.startswith(("is ", "has ", "must ")) else f"{name}: {detail}"
