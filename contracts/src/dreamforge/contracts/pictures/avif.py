"""Metadata in AVIF: boxes of ISO/IEC 14496-12, items of ISO/IEC 23008-12. Pure, and bounded in its steps."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

#: Boxes and items that are read of one file; a picture of ours has about twenty.
PARTS_MAX = 4_096
#: What names the box of content credentials (C2PA 2.1, section A.5).
C2PA_UUID = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP_TYPE = b"application/rdf+xml"


class Box(NamedTuple):
    """A box: its type, and where it, and what is in it, begins and ends."""

    kind: bytes
    start: int
    body: int
    stop: int


class Item(NamedTuple):
    """A part of the file that is EXIF or XMP."""

    kind: str
    start: int
    stop: int


def boxes(data: bytes, start: int, stop: int) -> Iterator[Box]:
    """The boxes between two bytes. Errors: ValueError for a box that does not end there."""
    for _ in range(PARTS_MAX):
        if start >= stop:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        end = start + size if size else stop
        if end < body or end > stop:
            raise ValueError(f"box {kind!r} at byte {start} does not end in the file")
        yield Box(kind, start, body, end)
        start = end
    raise ValueError(f"more than {PARTS_MAX} boxes")


def metadata_items(data: bytes) -> Iterator[Item]:
    """Where EXIF (its TIFF) and XMP are. Errors: ValueError, struct.error for a damaged file."""
    for meta in boxes(data, 0, len(data)):
        if meta.kind == b"meta":
            inside = {box.kind: box for box in boxes(data, meta.body + 4, meta.stop)}
            if b"iinf" in inside and b"iloc" in inside:
                kinds = dict(_kinds(data, inside[b"iinf"]))
                yield from _places(data, inside[b"iloc"], kinds)


def _kinds(data: bytes, iinf: Box) -> Iterator[tuple[int, str]]:
    """The ids of items that are metadata, by what they are."""
    first = iinf.body + 4 + (2 if data[iinf.body] == 0 else 4)
    for box in boxes(data, first, iinf.stop):
        version = data[box.body]
        if box.kind != b"infe" or version < 2:
            continue
        layout = ">H2x4s" if version == 2 else ">I2x4s"
        item, kind = struct.unpack_from(layout, data, box.body + 4)
        names = data[box.body + 4 + struct.calcsize(layout) : box.stop].split(b"\0")
        if kind == b"Exif":
            yield item, "exif"
        elif kind == b"mime" and _XMP_TYPE in names:
            yield item, "xmp"


def _places(data: bytes, iloc: Box, kinds: dict[int, str]) -> Iterator[Item]:
    """The items that are one piece of this file."""
    version, sizes, more = data[iloc.body], data[iloc.body + 4], data[iloc.body + 5]
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
    index_size = more & 15 if version else 0
    reader = _Numbers(data, iloc.body + 6, iloc.stop)
    for _ in range(min(reader.read(4 if version == 2 else 2), PARTS_MAX)):
        item = reader.read(4 if version == 2 else 2)
        method = reader.read(2) & 15 if version else 0
        reader.read(2)
        base, extents = reader.read(base_size), reader.read(2)
        for _ in range(min(extents, PARTS_MAX)):
            reader.read(index_size)
            start, length = base + reader.read(offset_size), reader.read(length_size)
            if item in kinds and method == 0 and extents == 1 and start + length <= len(data):
                yield _item(data, kinds[item], start, start + length)


def _item(data: bytes, kind: str, start: int, stop: int) -> Item:
    """An item without the offset of its TIFF, which EXIF begins with."""
    if kind == "exif" and stop - start > 4:
        (skipped,) = struct.unpack_from(">I", data, start)
        start = min(start + 4 + skipped, stop)
    return Item(kind, start, stop)


class _Numbers:
    """Reads one number after the other, of the sizes that the file states."""

    def __init__(self, data: bytes, at: int, stop: int) -> None:
        self._data, self._at, self._stop = data, at, stop

    def read(self, size: int) -> int:
        """The next number. Errors: ValueError behind the end of the box."""
        self._at += size
        if self._at > self._stop:
            raise ValueError("iloc is truncated")
        return int.from_bytes(self._data[self._at - size : self._at], "big")
