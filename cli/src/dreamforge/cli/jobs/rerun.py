"""Rendering an artifact again: the request to submit, and how two images and their recipes differ. Pure."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.resolve import inputs_of

Json = dict[str, Any]  # Any: JSON
SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGB_BYTES = 3
# Filter types of the PNG specification (section 9.2): the two that our runners write.
FILTER_NONE, FILTER_SUB = 0, 1


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two renders of one request. `differing` counts pixels; None if sizes differ. Changes are (name, was, is)."""

    same_bytes: bool
    pixels: int
    differing: int | None
    changes: tuple[tuple[str, str, str], ...]

    @property
    def same_pixels(self) -> bool:
        """Whether both show the same pixels."""
        return self.differing == 0


def submission(request: RenderRequest, seed: int) -> Json:
    """The body that requests one image of a request again, with all values that a preset could change."""
    return inputs_of(request) | {"seed": seed, "images": 1}


def compare(before: bytes, after: bytes, recipe_before: Json, recipe_after: Json) -> Comparison:
    """How the second render differs. Errors: CommandError for a PNG that no runner wrote."""
    first, second = _rows(before), _rows(after)
    same_size = [len(row) for row in first] == [len(row) for row in second]
    differing = sum(map(_differing, first, second)) if same_size else None
    pixels = sum(len(row) // RGB_BYTES for row in first)
    return Comparison(before == after, pixels, differing, tuple(_changes(recipe_before, recipe_after)))


def _changes(before: Json, after: Json) -> Iterator[tuple[str, str, str]]:
    old, new = dict(_flat(before)), dict(_flat(after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield name, str(old.get(name, "nothing")), str(new.get(name, "nothing"))


def _flat(recipe: Json, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in recipe.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _rows(png: bytes) -> list[bytes]:
    """The rows of an 8-bit RGB PNG, unfiltered: width_px * 3 bytes each."""
    width_px, data = 0, bytearray()
    for kind, chunk in _chunks(png):
        if kind == b"IHDR":
            width_px = int.from_bytes(chunk[:4])
        elif kind == b"IDAT":
            data += chunk
    try:
        lines = zlib.decompress(data)
    except zlib.error as error:
        raise _unreadable(str(error)) from None
    stride = 1 + RGB_BYTES * width_px
    return [_unfiltered(lines[start : start + stride]) for start in range(0, len(lines), stride)]


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not png.startswith(SIGNATURE):
        raise _unreadable("it has another signature")
    position = len(SIGNATURE)
    while position + 8 <= len(png):
        size_bytes = int.from_bytes(png[position : position + 4])
        yield png[position + 4 : position + 8], png[position + 8 : position + 8 + size_bytes]
        position += 12 + size_bytes


def _unfiltered(line: bytes) -> bytes:
    if line[0] == FILTER_NONE:
        return line[1:]
    if line[0] != FILTER_SUB:
        raise _unreadable(f"a row has filter {line[0]}")
    row = bytearray(line[1:])
    for i in range(RGB_BYTES, len(row)):
        row[i] = (row[i] + row[i - RGB_BYTES]) & 0xFF
    return bytes(row)


def _differing(first: bytes, second: bytes) -> int:
    if first == second:
        return 0
    places = range(0, len(first), RGB_BYTES)
    return sum(first[i : i + RGB_BYTES] != second[i : i + RGB_BYTES] for i in places)


def _unreadable(reason: str) -> CommandError:
    return CommandError(f"not a PNG that a runner wrote: {reason}", Exit.FAILED)
