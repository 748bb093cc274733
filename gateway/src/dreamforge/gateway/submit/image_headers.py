"""What an upload announces in its header, and where it ends: read without decoding a pixel. Pure.

Pillow decodes an image only after its announced size was found within bounds, so a decompression bomb costs nothing.
Pillow does not read the size here: opening a WebP of 8,000 x 8,000 px takes 488 MiB of address space, and for no
format does it say where the image ends. Every walk is linear in the bytes and bounded in its steps.
Formats: PNG (ISO/IEC 15948, chunks), JPEG (ITU-T T.81, annex B: markers), WebP (RFC 9649: RIFF chunks), AVIF
(ISO/IEC 14496-12 and 23008-12: boxes).
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from dreamforge.contracts.pictures.avif import boxes
from dreamforge.contracts.pictures.formats import content_type_of
from dreamforge.gateway.http.errors import BadPicture, UnsupportedMedia

# What is decoded, and how Pillow calls it.
FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/avif": "AVIF"}
# What clients send that do not look into a file.
ANY_BYTES = "application/octet-stream"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
# Start of frame: the markers that carry the size, whatever the coding (C4, C8 and CC are others).
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
# Encoders write about ten; thousands of empty ones would keep a decoder busy for minutes.
SCANS_MAX = 100
# Chunks, markers and fill bytes of one file. 16 MiB in the smallest IDAT chunks of known encoders (1 KiB) are 16,384.
PARTS_MAX = 100_000
# In coded data 0xFF is followed by 0, a restart marker or another 0xFF; anything else is the next marker. With the
# bytes translated to these three classes, `bytes.find` finds it in one pass at memory speed.
_CODED, _MARKER, _FF = 0, 1, 0xFF
_CLASSES = bytes(
    _FF if byte == 0xFF else _CODED if byte == 0 or 0xD0 <= byte <= 0xD7 else _MARKER for byte in range(256)
)
_NEXT_MARKER = bytes((_FF, _MARKER))


def require_image_type(header: str | None) -> None:
    """Check that a body may be an image by its Content-Type; which image it is, its content says.

    Errors: UnsupportedMedia for forms, text and whatever else a client cannot mean as the bytes of an image.
    """
    given = (header or "").partition(";")[0].strip().lower()
    if given and given != ANY_BYTES and not given.startswith("image/"):
        raise UnsupportedMedia(given=given[:80], allowed=(*FORMATS, ANY_BYTES))


@dataclass(frozen=True, slots=True)
class Header:
    """The announced type and size of a file, and the index after its last byte."""

    content_type: str
    width_px: int
    height_px: int
    end: int


def read_header(data: bytes) -> Header:
    """The header of a file that is there to its end; cameras and scanners append what belongs to no image.

    Errors: BadPicture (unknown type, truncated, too many parts).
    """
    try:
        header = _header(data)
    except (struct.error, IndexError):
        raise BadPicture("it is truncated") from None
    if header.end > len(data):
        raise BadPicture("it is truncated")
    return header


def _header(data: bytes) -> Header:
    if data.startswith(PNG_MAGIC):
        return _png(data)
    if data.startswith(JPEG_MAGIC):
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    if content_type_of(data) == "image/avif":
        return _avif(data)
    raise BadPicture("its first bytes are those of no PNG, JPEG, WebP or AVIF" if data else "it is empty")


def _png(data: bytes) -> Header:
    """Reads the chunks: length, name, body, CRC."""
    width_px, height_px = struct.unpack(">II", data[16:24])
    if data[12:16] != b"IHDR":
        raise BadPicture("its first chunk is not IHDR")
    at = len(PNG_MAGIC)
    for _ in range(PARTS_MAX):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body_end = at + 8 + length
        (crc,) = struct.unpack(">I", data[body_end : body_end + 4])
        if crc != zlib.crc32(data[at + 4 : body_end]):
            raise BadPicture(f"chunk {name.decode('latin-1')} at byte {at} is damaged")
        at = body_end + 4
        if name == b"IEND":
            return Header("image/png", width_px, height_px, at)
    raise BadPicture(f"it has more than {PARTS_MAX} chunks")


def _jpeg(data: bytes) -> Header:
    """Reads the markers; coded data is skipped up to the next one."""
    classes = data.translate(_CLASSES)
    at, width_px, height_px, scans = 2, 0, 0, 0
    for _ in range(PARTS_MAX):
        if data[at] != 0xFF:
            raise BadPicture(f"byte {at} should begin a marker")
        at += 1
        marker = data[at]
        if marker == 0xFF:  # what was read is a fill byte, and a marker may follow
            continue
        at += 1
        if marker == _END:
            return Header("image/jpeg", width_px, height_px, at)
        (length,) = struct.unpack(">H", data[at : at + 2])
        if marker in _SIZE_MARKERS:
            sides = struct.unpack(">HH", data[at + 3 : at + 7])
            width_px, height_px = max(width_px, sides[1]), max(height_px, sides[0])
        at += length
        if marker == _SCAN:
            scans += 1
            at = _after_scan(classes, at, scans)
    raise BadPicture(f"it has more than {PARTS_MAX} markers")


def _after_scan(classes: bytes, at: int, scans: int) -> int:
    """Where the marker after the coded data of a scan begins."""
    if scans > SCANS_MAX:
        raise BadPicture(f"it has more than {SCANS_MAX} scans")
    found = classes.find(_NEXT_MARKER, at)
    if found < 0:
        raise BadPicture("it is truncated")
    return found


def _webp(data: bytes) -> Header:
    """The size is in the first chunk: VP8X (canvas), VP8L (lossless) or VP8 (lossy)."""
    (length,) = struct.unpack("<I", data[4:8])
    kind = data[12:16]
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack("<HBHB", data[24:30])
        width_px, height_px = 1 + (low_w | high_w << 16), 1 + (low_h | high_h << 16)
    elif kind == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        width_px, height_px = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width_px, height_px = (side & 0x3FFF for side in struct.unpack("<HH", data[26:30]))
    else:
        raise BadPicture("its first chunk is none of VP8, VP8L and VP8X")
    return Header("image/webp", width_px, height_px, 8 + length + length % 2)


def _avif(data: bytes) -> Header:
    """The size is that of the largest item: others are its tiles, its alpha channel or its thumbnail."""
    try:
        tops = tuple(boxes(data, 0, len(data)))
        sizes = tuple(_avif_sizes(data, *((each.body, each.stop) for each in tops if each.kind == b"meta")))
    except ValueError as error:
        raise BadPicture(str(error)) from None
    if not sizes:
        raise BadPicture("it states no size")
    return Header("image/avif", *max(sizes, key=lambda size: size[0] * size[1]), tops[-1].stop)


def _avif_sizes(data: bytes, *metas: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Width and height in each `ispe`, which lies in meta, iprp and ipco."""
    for body, stop in metas:
        for iprp in (each for each in boxes(data, body + 4, stop) if each.kind == b"iprp"):
            for ipco in (each for each in boxes(data, iprp.body, iprp.stop) if each.kind == b"ipco"):
                for each in boxes(data, ipco.body, ipco.stop):
                    if each.kind == b"ispe":
                        yield struct.unpack_from(">II", data, each.body + 4)
