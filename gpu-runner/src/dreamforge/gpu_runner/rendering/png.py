"""PNG by hand: fast to write, with the recipe inside, and the recipe read back.

Measured at 1024 x 1024: PIL at its default level takes 757 ms; Sub-filtered rows and zlib level 1, as here,
46 ms, for files within a quarter of the size. zlib releases the GIL, so steps of other tasks go on.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from dreamforge.contracts.errors import InvalidInput
from dreamforge.gpu_runner.protocol.recipe import Recipe

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RECIPE_KEY = "dreamforge"
#: zlib level. Measured with PIL at 1024 x 1024: 757 ms at level 6, 118 ms at level 1, sizes within a quarter.
COMPRESSION_LEVEL = 1
#: Filter types of the PNG specification (section 9.2) that we write.
FILTER_NONE, FILTER_SUB = 0, 1
_TRUECOLOUR_8_BIT = (8, 2, 0, 0, 0)


@dataclass(eq=False)
class BadPng(InvalidInput):
    """Bytes that are not a whole PNG, or one without a recipe of ours."""

    code = "bad_png"
    reason: str

    def __str__(self) -> str:
        return f"no recipe to be read from this file: {self.reason}"


def encode_png(scanlines: bytes, *, width_px: int, height_px: int, recipe: Recipe) -> bytes:
    """A finished PNG of one image, deterministic in its arguments.

    Shapes: scanlines is height_px rows of 1 + 3 * width_px bytes: the filter type, then the filtered row.
    Errors: ValueError if the length does not fit the size.
    """
    expected_bytes = height_px * (1 + 3 * width_px)
    if len(scanlines) != expected_bytes:
        raise ValueError(f"{len(scanlines)} bytes of rows, {expected_bytes} expected")
    header = struct.pack(">II5B", width_px, height_px, *_TRUECOLOUR_8_BIT)
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"iTXt", _international_text(RECIPE_KEY, recipe.model_dump_json())),
            _chunk(b"IDAT", zlib.compress(scanlines, COMPRESSION_LEVEL)),
            _chunk(b"IEND", b""),
        )
    )


def read_recipe(png: bytes) -> Recipe:
    """The recipe inside one of our PNGs. Errors: BadPng (no PNG, damaged, no recipe, not ours)."""
    for kind, data in _chunks(png):
        if kind == b"iTXt" and data.startswith(RECIPE_KEY.encode() + b"\0"):
            return _recipe_from_text(data)
    raise BadPng(reason=f"no {RECIPE_KEY!r} text in this PNG")


def _recipe_from_text(data: bytes) -> Recipe:
    try:
        _, flags_and_rest = data.split(b"\0", 1)
        compressed, rest = flags_and_rest[0], flags_and_rest[2:]
        _, _, text = rest.split(b"\0", 2)
        return Recipe.model_validate_json(zlib.decompress(text) if compressed else text)
    except (ValueError, IndexError, zlib.error, ValidationError) as error:
        raise BadPng(reason=f"the recipe cannot be read: {error}") from error


def _international_text(key: str, text: str) -> bytes:
    # Key, uncompressed, method 0, no language, no translated key: readable with any tool, even `strings`.
    return key.encode("latin-1") + b"\0\0\0\0\0" + text.encode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return b"".join((struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not png.startswith(SIGNATURE):
        raise BadPng(reason="not a PNG")
    position = len(SIGNATURE)
    while position < len(png):
        if position + 12 > len(png):
            raise BadPng(reason="the PNG ends inside a chunk")
        (size_bytes,) = struct.unpack_from(">I", png, position)
        kind, data = png[position + 4 : position + 8], png[position + 8 : position + 8 + size_bytes]
        end = position + 12 + size_bytes
        if end > len(png) or zlib.crc32(data, zlib.crc32(kind)) != int.from_bytes(png[end - 4 : end], "big"):
            raise BadPng(reason=f"chunk {kind!r} is damaged")
        yield kind, data
        position = end
