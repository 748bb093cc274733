"""A picture without its recipe and texts; the mark that a model generated it stays, and so does every pixel. Pure.

Content credentials cover the bytes, so they go too: kept, they would say that the picture was tampered with.
"""

import struct

from dreamforge.contracts.pictures.segments import Segment, segments, webp_chunks

#: What stays: XMP, which holds the mark and in our pictures nothing else.
_KEPT = "xmp"
#: A TIFF with an empty directory.
_EMPTY_EXIF = b"MM\0*" + struct.pack(">IHI", 8, 0, 0)
_WEBP_EXIF_FLAG = 0x08


def without_recipe(data: bytes) -> bytes:
    """The same picture with its XMP alone; a file of another type as it is. Errors: DamagedPicture."""
    leaving = [each for each in segments(data) if each.kind != _KEPT]
    if not leaving:
        return data
    if data[4:8] == b"ftyp":
        return _blanked(data, leaving)
    kept, at = [], 0
    for each in leaving:
        kept.append(data[at : each.start])
        at = each.stop
    shorter = b"".join((*kept, data[at:]))
    return _webp(shorter) if data[:4] == b"RIFF" else shorter


def _webp(data: bytes) -> bytes:
    """With the length of what is left, and no flag for EXIF (RFC 9649, section 2.7)."""
    out = bytearray(data)
    out[4:8] = struct.pack("<I", len(data) - 8)
    for name, body, _ in webp_chunks(bytes(out)):
        if name == b"VP8X":
            out[body] &= ~_WEBP_EXIF_FLAG & 0xFF
    return bytes(out)


def _blanked(data: bytes, leaving: list[Segment]) -> bytes:
    """AVIF and MP4 name their parts by their place in the file, so they are overwritten and nothing moves."""
    out = bytearray(data)
    for each in leaving:
        room = each.body_stop - each.body
        empty = _EMPTY_EXIF if each.kind == "exif" and room >= len(_EMPTY_EXIF) else b""
        out[each.body : each.body_stop] = empty.ljust(room, b"\0")
        if each.kind in ("c2pa", "items"):
            out[each.start + 4 : each.start + 8] = b"free"
    return bytes(out)
