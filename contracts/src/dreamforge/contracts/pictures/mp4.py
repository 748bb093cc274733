"""Metadata of MP4: two boxes after all others, so that nothing moves where they are added or blanked. Pure.

One is a list of items as iTunes writes it, at the level of the file (ISO/IEC 14496-12, 8.11.1), which ffmpeg and
players read: the text of A1111, the recipe, and the poster, which is the first frame. The other is XMP, in the box that
its specification names (part 3, section 1.1.7).
"""

import struct
from collections.abc import Iterator, Mapping

from dreamforge.contracts.pictures.avif import Box, boxes

#: What names the box of XMP.
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
#: Who gives the names of items that have no four letters of their own.
MEANING = "dreamforge"
_COMMENT, _TOOL, _COVER, _NAMED = b"\xa9cmt", b"\xa9too", b"covr", b"----"
#: Types of an item's data (QuickTime File Format, "Well-known types").
_UTF8, _JPEG = 1, 13
_HANDLER = struct.pack(">II4s4s8xx", 0, 0, b"mdir", b"appl")


def metadata_boxes(texts: Mapping[str, str], *, comment: str, xmp: bytes, poster: bytes) -> bytes:
    """The two boxes. `texts` by name; `poster` is a JPEG."""
    items = (
        _item(_TOOL, _UTF8, b"Dream Forge"),
        _item(_COMMENT, _UTF8, comment.encode()),
        *(_named(name, text) for name, text in texts.items()),
        _item(_COVER, _JPEG, poster),
    )
    listed = bytes(4) + _box(b"hdlr", _HANDLER) + _box(b"ilst", b"".join(items))
    return _box(b"meta", listed) + _box(b"uuid", XMP_UUID + xmp)


def comment_of(data: bytes, meta: Box) -> str | None:
    """The comment in a list of items. Errors: ValueError, struct.error for a damaged one."""
    found = next((body for kind, body in _items(data, meta) if kind == _COMMENT), None)
    return None if found is None else _payload(data, found).decode("utf-8", "replace")


def texts_of(data: bytes, meta: Box) -> dict[str, str]:
    """The texts in a list of items, by name. Errors: as `comment_of`."""
    found = {}
    for kind, item in _items(data, meta):
        if kind == _NAMED:
            parts = {part.kind: part for part in boxes(data, item.body, item.stop)}
            if parts.keys() >= {b"name", b"data"}:
                name = data[parts[b"name"].body + 4 : parts[b"name"].stop].decode("utf-8", "replace")
                found[name] = _payload(data, item).decode("utf-8", "replace")
    return found


def poster_of(data: bytes) -> bytes | None:
    """The image that stands for a video; None where it has none. Errors: as `comment_of`."""
    for meta in item_lists(data):
        for kind, item in _items(data, meta):
            if kind == _COVER:
                return _payload(data, item)
    return None


def item_lists(data: bytes) -> Iterator[Box]:
    """The lists of items of a file."""
    return (box for box in boxes(data, 0, len(data)) if box.kind == b"meta")


def _items(data: bytes, meta: Box) -> Iterator[tuple[bytes, Box]]:
    for part in boxes(data, meta.body + 4, meta.stop):
        if part.kind == b"ilst":
            yield from ((item.kind, item) for item in boxes(data, part.body, part.stop))


def _payload(data: bytes, item: Box) -> bytes:
    """What is in the data of an item, after its type and language."""
    found = next((part for part in boxes(data, item.body, item.stop) if part.kind == b"data"), None)
    return b"" if found is None else data[found.body + 8 : found.stop]


def _named(name: str, text: str) -> bytes:
    parts = _box(b"mean", bytes(4) + MEANING.encode()), _box(b"name", bytes(4) + name.encode())
    return _box(_NAMED, b"".join(parts) + _data(_UTF8, text.encode()))


def _item(kind: bytes, data_type: int, payload: bytes) -> bytes:
    return _box(kind, _data(data_type, payload))


def _data(data_type: int, payload: bytes) -> bytes:
    return _box(b"data", struct.pack(">II", data_type, 0) + payload)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body
