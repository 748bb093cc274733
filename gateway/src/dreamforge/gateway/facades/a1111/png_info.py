"""What is written in an image, and the text `parameters` of A1111 as its parts. Pure."""

import json
import re
from collections.abc import Iterator
from typing import Any

from dreamforge.contracts.pictures.infotext import NEGATIVE
from dreamforge.contracts.pictures.metadata import PARAMETERS_KEY, read_metadata

# A value with a comma or colon is a JSON string (see contracts.pictures.infotext).
_VALUE = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_SIZE = re.compile(r"(\d+)x(\d+)", re.ASCII)
# A last line with fewer values belongs to the prompt (modules/infotext_utils.py, 1.10).
_VALUES_MIN = 3


def png_info(data: bytes) -> dict[str, Any]:
    """The answer of `png-info`: `info`, `items` (other texts), `parameters`. Any: JSON. Errors: DamagedPicture."""
    found = read_metadata(data)
    text = found.parameters or ""
    items = {name: value for name, value in found.texts.items() if name != PARAMETERS_KEY}
    return {"info": text, "items": items, "parameters": parsed(text) if text else {}}


def parsed(text: str) -> dict[str, str]:
    r"""The parts of a text `parameters`, by A1111's names: `Prompt`, `Negative prompt`, `Steps`, `Size-1` ...

    >>> parsed('a fox\nNegative prompt: blue\nSteps: 20, Size: 64x32, Lora hashes: "a: 1, b: 2"')["Size-2"]
    '32'
    """
    *lines, last = text.strip().split("\n")
    values = dict(_values(last))
    if len(values) < _VALUES_MIN:
        lines, values = [*lines, last], {}
    prompt, negative = lines, []
    for index, line in enumerate(lines):
        if line.startswith(NEGATIVE.strip()):
            prompt, negative = lines[:index], [line.removeprefix(NEGATIVE.strip()).strip(), *lines[index + 1 :]]
            break
    return {"Prompt": "\n".join(prompt), "Negative prompt": "\n".join(negative), **values}


def _values(line: str) -> Iterator[tuple[str, str]]:
    for name, quoted in _VALUE.findall(line):
        value = _unquoted(quoted.strip())
        if size := _SIZE.fullmatch(value):
            yield f"{name}-1", size[1]
            yield f"{name}-2", size[2]
        else:
            yield name, value


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text
