"""Conditional and partial reads (RFC 9110): which bytes a client wants of a representation that never changes. Pure."""

import re

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII | re.IGNORECASE)


class Unsatisfiable(ValueError):
    """The range begins behind the last byte."""


def etag_of(name: str) -> str:
    """A strong entity tag.

    >>> etag_of("ab12")
    '"ab12"'
    """
    return f'"{name}"'


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this representation already.

    >>> is_known('W/"a", "b"', '"b"'), is_known("*", '"b"'), is_known(None, '"b"')
    (True, True, False)
    """
    known = [each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")]
    return etag in known or "*" in known


def requested_range(header: str | None, size_bytes: int, *, if_range: str | None, etag: str) -> range | None:
    """The bytes of one range; None for all of them: no range, several ones, or another version in If-Range.

    >>> requested_range("bytes=2-", 10, if_range=None, etag='"a"')
    range(2, 10)
    >>> requested_range("bytes=-3", 10, if_range=None, etag='"a"')
    range(7, 10)
    >>> requested_range("bytes=0-1,4-5", 10, if_range=None, etag='"a"')

    Errors: Unsatisfiable.
    """
    found = _RANGE.fullmatch((header or "").replace(" ", ""))
    if found is None or if_range not in (None, etag) or found[0].endswith("=-"):
        return None
    first, last = found[1], found[2]
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size_bytes - int(last))
    stop = min(int(last) + 1, size_bytes) if first and last else size_bytes
    if start >= stop:
        raise Unsatisfiable
    return range(start, stop)
