"""EXIF of a picture without text chunks: the `parameters` text, and our recipe. Pure.

The layout is TIFF 6.0 with the tags of EXIF 2.32, big-endian, as A1111 writes it: UserComment begins with eight bytes
that name its code, and "UNICODE" is UTF-16 in the order of the file.
"""

import struct
from collections.abc import Iterator

USER_COMMENT, MAKER_NOTE, SOFTWARE, EXIF_IFD = 0x9286, 0x927C, 0x0131, 0x8769
#: Fields that other programs put text into: ComfyUI writes its workflow to Make and Model, Fooocus its scheme.
IMAGE_DESCRIPTION, MAKE, MODEL = 0x010E, 0x010F, 0x0110
#: What a maker note of ours begins with: a recipe as JSON follows.
MAKER = b"dreamforge\0"
_UNICODE = b"UNICODE\0"
_ASCII_TYPE, _LONG, _UNDEFINED = 2, 4, 7
#: Bytes of a value, by TIFF type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 129: 1}
#: Entries that are read of one directory: cameras write about fifty.
_ENTRIES_MAX = 512
#: What Pillow and JPEG put before the TIFF.
PREFIX = b"Exif\0\0"


def exif_of(comment: str, recipe: str | None) -> bytes:
    """A TIFF with a comment, and a recipe as JSON unless it is None."""
    inner = [(USER_COMMENT, _UNDEFINED, _UNICODE + comment.encode("utf-16-be", "replace"))]
    if recipe is not None:
        inner.insert(0, (MAKER_NOTE, _UNDEFINED, MAKER + recipe.encode()))
    inner.sort()
    software = (SOFTWARE, _ASCII_TYPE, b"Dream Forge\0")
    outer_bytes = len(_directory(8, [software, (EXIF_IFD, _LONG, bytes(4))]))
    pointer = (EXIF_IFD, _LONG, struct.pack(">I", 8 + outer_bytes))
    return b"MM\0*" + struct.pack(">I", 8) + _directory(8, [software, pointer]) + _directory(8 + outer_bytes, inner)


def _directory(at: int, fields: list[tuple[int, int, bytes]]) -> bytes:
    """A directory that begins at a byte of the file, and the values that do not fit into it."""
    entries, values = [], b""
    values_at = at + 2 + 12 * len(fields) + 4
    for tag, kind, data in fields:
        count = len(data) // _SIZES[kind]
        if len(data) <= 4:
            place = data.ljust(4, b"\0")
        else:
            place = struct.pack(">I", values_at + len(values))
            values += data + b"\0" * (len(data) % 2)
        entries.append(struct.pack(">HHI", tag, kind, count) + place)
    return struct.pack(">H", len(fields)) + b"".join(entries) + bytes(4) + values


def read_exif(data: bytes) -> dict[int, bytes]:
    """The fields of the first directory and of the EXIF directory, as bytes; what is damaged is left out.

    Reads two directories of at most 512 entries each, and copies no byte that is not in the data.
    """
    tiff = data.removeprefix(PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return {}
    found = dict(_entries(tiff, order, *struct.unpack(order + "I", tiff[4:8])))
    pointer = found.get(EXIF_IFD, b"")
    if len(pointer) == 4:
        found |= dict(_entries(tiff, order, *struct.unpack(order + "I", pointer)))
    return found


def _entries(tiff: bytes, order: str, at: int) -> Iterator[tuple[int, bytes]]:
    if at + 2 > len(tiff):
        return
    (count,) = struct.unpack_from(order + "H", tiff, at)
    for number in range(min(count, _ENTRIES_MAX)):
        entry = at + 2 + 12 * number
        if entry + 12 > len(tiff):
            return
        tag, kind, values = struct.unpack_from(order + "HHI", tiff, entry)
        size = _SIZES.get(kind, 0) * values
        start = entry + 8 if size <= 4 else struct.unpack_from(order + "I", tiff, entry + 8)[0]
        if size and start + size <= len(tiff):
            yield tag, tiff[start : start + size]


def comment_of(value: bytes) -> str:
    """A user comment as text, in any of the codes that EXIF and other programs use.

    >>> comment_of(b"UNICODE\\0" + "ä".encode("utf-16-be")), comment_of(b"ASCII\\0\\0\\0plain")
    ('ä', 'plain')
    """
    code, text = value[:8], value[8:]
    if code == _UNICODE:
        big, little = (text.decode(name, "replace") for name in ("utf-16-be", "utf-16-le"))
        # Programs disagree about the order; a wrong one makes rare characters of plain ones.
        return _without_mark(min(big, little, key=lambda each: sum(character > "\u2fff" for character in each)))
    return (text if code in (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8)) else value).decode("utf-8", "replace")


def _without_mark(text: str) -> str:
    return text.removeprefix("\ufeff").rstrip("\0")
