"""Byte counts as people say them. Pure."""

import re

#: Six digits and more: what is below is steps, pixels or milliseconds, not memory.
_LARGE_NUMBER = re.compile(r"\b(\d{6,})\b(?: bytes)?")


def readable_size(number_bytes: int) -> str:
    """Binary units, one digit after the point.

    >>> readable_size(76_303_168), readable_size(8 * 2**30)
    ('72.8 MiB', '8.0 GiB')
    """
    return f"{number_bytes / 2**30:.1f} GiB" if number_bytes >= 2**30 else f"{number_bytes / 2**20:.1f} MiB"


def readable_sizes(text: str) -> str:
    """A sentence with its large byte counts so.

    >>> readable_sizes("needs 8589934592 bytes, can offer 4294967296")
    'needs 8.0 GiB, can offer 4.0 GiB'
    """
    return _LARGE_NUMBER.sub(lambda match: readable_size(int(match[1])), text)
