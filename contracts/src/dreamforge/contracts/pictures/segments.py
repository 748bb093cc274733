"""Where the metadata of a picture file is: PNG, JPEG, WebP, AVIF and MP4, read by their structure alone. Pure.

Every walk is linear in the bytes and bounded in its steps, and no pixel is decoded, so a hostile file costs nothing.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from dreamforge.contracts.pictures import avif, mp4
from dreamforge.contracts.pictures.formats import ContentType, content_type_of

Kind = Literal["text", "items", "exif", "xmp", "c2pa", "comment"]
#: Chunks and markers of one file before its end.
PARTS_MAX = 100_000
_JPEG_EXIF, _JPEG_XMP, _JPEG_C2PA = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"JP"
_APP1, _APP11, _COM, _SCAN, _END = 0xE1, 0xEB, 0xFE, 0xDA, 0xD9
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PNG_XMP = b"XML:com.adobe.xmp\0"
_PNG_KINDS: dict[bytes, Kind] = {b"eXIf": "exif", b"caBX": "c2pa"}
_WEBP_KINDS: dict[bytes, Kind] = {b"EXIF": "exif", b"XMP ": "xmp", b"C2PA": "c2pa"}


class DamagedPicture(ValueError):
    """The structure of the file ends or contradicts itself; its text says where."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a file: all of it is from `start` to `stop`, its content from `body` to `body_stop`."""

    kind: Kind
    start: int
    stop: int
    body: int
    body_stop: int
    #: The type of a PNG chunk.
    name: bytes = b""


def segments(data: bytes) -> tuple[Segment, ...]:
    """The metadata of a file in its order; of a file of another type nothing. Errors: DamagedPicture."""
    content_type = content_type_of(data)
    if content_type is None:
        return ()
    try:
        return tuple(_WALKS[content_type](data))
    except (struct.error, IndexError):
        raise DamagedPicture("it is truncated") from None
    except ValueError as error:
        raise DamagedPicture(str(error)) from None


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The type of each chunk, and where its content begins and ends."""
    at = 8
    for _ in range(PARTS_MAX):
        length, name = struct.unpack_from(">I4s", data, at)
        stop = at + 8 + length
        if stop + 4 > len(data):
            raise DamagedPicture("it is truncated")
        yield name, at + 8, stop
        if name == b"IEND":
            return
        at = stop + 4
    raise DamagedPicture(f"it has more than {PARTS_MAX} chunks")


def _png(data: bytes) -> Iterator[Segment]:
    for name, body, stop in png_chunks(data):
        if name in _PNG_TEXTS:
            is_xmp = name == b"iTXt" and data.startswith(_PNG_XMP, body)
            yield Segment("xmp" if is_xmp else "text", body - 8, stop + 4, body, stop, name)
        elif name in _PNG_KINDS:
            yield Segment(_PNG_KINDS[name], body - 8, stop + 4, body, stop, name)


def _jpeg(data: bytes) -> Iterator[Segment]:
    at = 2
    for _ in range(PARTS_MAX):
        if data[at] != 0xFF:
            raise DamagedPicture(f"byte {at} should begin a marker")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in (_SCAN, _END):
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        body, stop = at + 4, at + 2 + length
        if stop > len(data) or stop < body:
            raise DamagedPicture("it is truncated")
        if found := _jpeg_kind(data, marker, body):
            kind, prefix = found
            yield Segment(kind, at, stop, body + len(prefix), stop)
        at = stop
    raise DamagedPicture(f"it has more than {PARTS_MAX} markers")


def _jpeg_kind(data: bytes, marker: int, body: int) -> tuple[Kind, bytes] | None:
    if marker == _COM:
        return "comment", b""
    if marker == _APP11 and data.startswith(_JPEG_C2PA, body):
        return "c2pa", b""
    if marker == _APP1 and data.startswith(_JPEG_EXIF, body):
        return "exif", _JPEG_EXIF
    if marker == _APP1 and data.startswith(_JPEG_XMP, body):
        return "xmp", _JPEG_XMP
    return None


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The type of each chunk, and where its content begins and ends; an odd one is followed by a byte."""
    (length,) = struct.unpack_from("<I", data, 4)
    end, at = 8 + length, 12
    if end > len(data):
        raise DamagedPicture("it is truncated")
    for _ in range(PARTS_MAX):
        if at + 8 > end:
            return
        name, size = struct.unpack_from("<4sI", data, at)
        if at + 8 + size > end:
            raise DamagedPicture("it is truncated")
        yield name, at + 8, at + 8 + size
        at += 8 + size + size % 2
    raise DamagedPicture(f"it has more than {PARTS_MAX} chunks")


def _webp(data: bytes) -> Iterator[Segment]:
    for name, body, stop in webp_chunks(data):
        if name in _WEBP_KINDS:
            yield Segment(_WEBP_KINDS[name], body - 8, stop + (stop - body) % 2, body, stop, name)


def _avif(data: bytes) -> Iterator[Segment]:
    for item in avif.metadata_items(data):
        kind: Kind = "exif" if item.kind == "exif" else "xmp"
        yield Segment(kind, item.start, item.stop, item.start, item.stop)
    for box in avif.boxes(data, 0, len(data)):
        if box.kind == b"uuid" and data.startswith(avif.C2PA_UUID, box.body):
            yield Segment("c2pa", box.start, box.stop, box.body, box.stop)


def _mp4(data: bytes) -> Iterator[Segment]:
    for box in avif.boxes(data, 0, len(data)):
        if box.kind == b"meta":
            yield Segment("items", box.start, box.stop, box.body, box.stop)
        elif box.kind == b"uuid" and data.startswith(mp4.XMP_UUID, box.body):
            yield Segment("xmp", box.start, box.stop, box.body + len(mp4.XMP_UUID), box.stop)
        elif box.kind == b"uuid" and data.startswith(avif.C2PA_UUID, box.body):
            yield Segment("c2pa", box.start, box.stop, box.body, box.stop)


_WALKS: dict[ContentType, Callable[[bytes], Iterator[Segment]]] = {
    "image/png": _png,
    "image/jpeg": _jpeg,
    "image/webp": _webp,
    "image/avif": _avif,
    "video/mp4": _mp4,
}
