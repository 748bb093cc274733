"""The headers of a message, read and written several times as fast as the client library does, with the same result.

Every follower reads the headers of every message, every append writes a dozen: half of the time of folding a log was
spent in the library's loop over the characters of header names. A property test compares both with the library, so
that an upgrade that changes it is noticed.
"""

from collections.abc import Mapping
from functools import lru_cache

from nats.aio.client import _HEADER_KEY_RE
from nats.errors import BadHeaderError

# What bytes.strip() strips; str.strip() alone would strip more.
BLANKS = " \t\n\r\x0b\x0c"
VERSION = "NATS/1.0"
# Those of ours and of the server are some thirty.
NAMES_KEPT, NAME_CHARS = 256, 64


@lru_cache(NAMES_KEPT)
def _start_of_line(name: str) -> str:
    """A header's name as it is written, "" for none. Errors: BadHeaderError for what is no name."""
    name = name.strip()
    if name and _HEADER_KEY_RE.fullmatch(name) is None:
        raise BadHeaderError(name)
    return f"{name}: " if name else ""


def header_block(headers: Mapping[str, str]) -> bytes:
    r"""The headers as they are sent. Values are trimmed, and line ends in them become blanks: they inject nothing.

    >>> header_block({"ce-id": " 1 ", "x": "a\r\nb: c"})
    b'NATS/1.0\r\nce-id: 1\r\nx: a  b: c\r\n\r\n'

    Errors: BadHeaderError(name).
    """
    lines = [f"{start}{value.strip()}" for name, value in headers.items() if (start := _start_of_line(name))]
    text = "\n".join(lines)
    if text.count("\n") >= len(lines) or "\r" in text:
        lines = [line.replace("\r", " ").replace("\n", " ") for line in lines]
    return "\r\n".join((VERSION, *lines, "", "")).encode()


def parse_header_lines(raw: bytes) -> dict[str, str]:
    r"""Headers of a block of `Name: Value\r\n`. Names with blanks or beyond ASCII are left out, as the library does.

    >>> parse_header_lines(b"ce-id: 1\r\nno colon\r\nA b: 2\r\nlast:  x:y \r\n\r\n")
    {'ce-id': '1', 'last': 'x:y'}
    """
    found = {}
    for line in raw.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            known = _name(name) if len(name) <= NAME_CHARS else _checked(name)
            if known is not None:
                found[known] = value.strip(BLANKS)
    return found


def _checked(name: str) -> str | None:
    """A name without blanks around it; None for what is no name."""
    name = name.strip(BLANKS)
    return name if name.isascii() and (not name or name.split() == [name]) else None


_name = lru_cache(NAMES_KEPT)(_checked)
