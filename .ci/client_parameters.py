"""Print `client/src/dreamforge/client/parameters.py`: the declared request parameters as types of keyword arguments.

A type checker reads files, not declarations, so the file is made from them; `task check` compares it.
"""

import sys
from textwrap import wrap
from typing import Annotated, Any, Literal, get_args, get_origin

from dreamforge.contracts.request.declaration import RequestParameter
from dreamforge.contracts.request.parameters import PARAMETERS

HEAD = '''\
"""What a request may set, as types of keyword arguments. Written by `task client-parameters`."""

from collections.abc import Sequence
from typing import Literal, TypedDict

{imports}


class OptionalParameters(TypedDict, total=False):
    """What is left out, or None, the preset decides. More of each: docs/request-parameters.md."""

{optional}

class JobParameters(OptionalParameters):
    """Of one job."""

{required}

class BatchParameters(OptionalParameters, total=False):
    """What all jobs of a batch have in common."""

{shared}'''
# Of ruff, without the indentation and the quotes.
LINE_CHARS = 110


def type_of(annotation: Any) -> str:  # Any: a type, or a form of typing
    """As it is written in a file.

    >>> type_of(int), type_of(Literal["a", "b"])
    ('int', 'Literal["a", "b"]')
    """
    if get_origin(annotation) is Literal:
        return "Literal[" + ", ".join(f'"{each}"' for each in get_args(annotation)) + "]"
    if get_origin(annotation) is tuple:
        return f"Sequence[{type_of(get_args(annotation)[0])}]"
    if get_origin(annotation) is Annotated:
        return type_of(get_args(annotation)[0])
    return str(annotation.__name__)


def field_of(parameter: RequestParameter) -> str:
    """One field with its help."""
    kind = type_of(parameter.type)
    lines = wrap(parameter.declared.help.replace("\\", "\\\\"), LINE_CHARS)
    help_text = ("\n    ").join(lines) + ("\n    " if len(lines) > 1 else "")
    return f'    {parameter.name}: {kind}{" | None" * parameter.nullable}\n    """{help_text}"""\n'


def values() -> str:
    """The imports of the values inside parameters."""
    used: dict[str, set[str]] = {}
    for each in PARAMETERS:
        kind = get_args(each.type)[0] if get_origin(each.type) is tuple else each.type
        if isinstance(kind, type) and kind.__module__ != "builtins":
            used.setdefault(kind.__module__, set()).add(kind.__name__)
    return "\n".join(f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(used.items()))


def main() -> None:
    required = "".join(field_of(each) for each in PARAMETERS if each.required)
    optional = "".join(field_of(each) for each in PARAMETERS if not each.required)
    sys.stdout.write(HEAD.format(imports=values(), optional=optional, required=required, shared=required))


if __name__ == "__main__":
    main()
