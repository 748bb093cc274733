"""What an upload says of itself in its first bytes, and where it ends: read without decoding a pixel. Pure.

A decoder is asked only for pictures whose announced size is within bounds, so a decompression bomb costs nothing.
Formats: PNG (ISO/IEC 15948, chunks), JPEG (ITU-T T.81, annex B: markers), WebP (RFC 9649: RIFF chunks).
"""

import re
import struct
import zlib
from dataclasses import dataclass

from dreamforge.gateway.http.errors import BadPicture

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
# Start of frame: the markers that carry the size, whatever the coding (C4, C8 and CC are others).
_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
# Encoders write about ten; thousands of empty ones would keep a decoder busy for minutes.
SCANS_MAX = 100
# In coded data 0xFF is followed by 0, a restart marker or another 0xFF; anything else is the next marker.
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True, slots=True)
class Header:
    """What a file announces, and the byte after its last."""

    content_type: str
    width_px: int
    height_px: int
    end: int


def read_header(data: bytes) -> Header:
    """The header of a whole file. Errors: BadPicture (no known type, truncated, bytes after the end)."""
    try:
        header = _header(data)
    except (struct.error, IndexError):
        raise BadPicture("it is truncated") from None
    if header.end != len(data):
        more = len(data) - header.end
        raise BadPicture(f"it has {more} bytes after its end" if more > 0 else "it is truncated")
    return header


def _header(data: bytes) -> Header:
    if data.startswith(PNG_MAGIC):
        return _png(data)
    if data.startswith(JPEG_MAGIC):
        return _jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp(data)
    raise BadPicture("its first bytes are those of no PNG, JPEG or WebP" if data else "it is empty")


def _png(data: bytes) -> Header:
    """Walks the chunks: length, name, body, CRC."""
    width_px, height_px = struct.unpack(">II", data[16:24])
    if data[12:16] != b"IHDR":
        raise BadPicture("its first chunk is not IHDR")
    at, name = len(PNG_MAGIC), b""
    while name != b"IEND":
        length, name = struct.unpack(">I4s", data[at : at + 8])
        body_end = at + 8 + length
        (crc,) = struct.unpack(">I", data[body_end : body_end + 4])
        if crc != zlib.crc32(data[at + 4 : body_end]):
            raise BadPicture(f"chunk {name.decode('latin-1')} at byte {at} is damaged")
        at = body_end + 4
    return Header("image/png", width_px, height_px, at)


def _jpeg(data: bytes) -> Header:
    """Walks the markers; coded data is passed over to the next one."""
    at, size, scans = 2, (0, 0), 0
    while True:
        if data[at] != 0xFF:
            raise BadPicture(f"byte {at} should begin a marker")
        while data[at] == 0xFF:  # fill bytes
            at += 1
        marker = data[at]
        at += 1
        if marker == _END:
            return Header("image/jpeg", size[0], size[1], at)
        (length,) = struct.unpack(">H", data[at : at + 2])
        if marker in _SIZE_MARKERS:
            height_px, width_px = struct.unpack(">HH", data[at + 3 : at + 7])
            size = (max(size[0], width_px), max(size[1], height_px))
        at += length
        if marker == _SCAN:
            scans += 1
            if scans > SCANS_MAX:
                raise BadPicture(f"it has more than {SCANS_MAX} scans")
            found = _NEXT_MARKER.search(data, at)
            if found is None:
                raise BadPicture("it is truncated")
            at = found.start()


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
