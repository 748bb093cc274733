"""What is written in an image, and the text `parameters` of A1111 as its parts. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dreamforge.contracts.pictures.foreign.a1111 import split_infotext
from dreamforge.contracts.pictures.metadata import PARAMETERS_KEY, read_metadata

_SIZE = re.compile(r"(\d+)x(\d+)", re.ASCII)


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
    prompt, negative, values = split_infotext(text)
    return {"Prompt": prompt, "Negative prompt": negative, **dict(_with_sides(values))}


def _with_sides(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if size := _SIZE.fullmatch(value):
            yield f"{name}-1", size[1]
            yield f"{name}-2", size[2]
        else:
            yield name, value
