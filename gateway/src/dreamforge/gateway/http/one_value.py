"""A parameter has one value: a request that gives two is refused, since it cannot be known which one is meant. Pure."""

from collections import Counter
from collections.abc import Iterable
from urllib.parse import parse_qsl

from dreamforge.gateway.http.errors import SHOWN_CHARS, VIOLATIONS_MAX, InvalidRequest, Violation

# Headers of ours, which mean one thing; HTTP itself joins others with commas.
SINGLE_HEADERS = frozenset((b"forge-tenant", b"idempotency-key", b"forge-min-sequence", b"last-event-id"))


def repeated(query: bytes, headers: Iterable[tuple[bytes, bytes]]) -> InvalidRequest | None:
    """The error of a request with a parameter that is given more than once; None where none is.

    >>> str(repeated(b"limit=1&limit=2", ()))
    'limit is given 2 times, and must be given once'
    """
    single = [name for name, _ in headers if name in SINGLE_HEADERS]
    if len(single) < 2 and b"&" not in query:
        return None
    found = Counter(name.decode() for name in single)
    if b"&" in query:
        found += Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    violations = tuple(
        Violation(f"is given {times} times, and must be given once", parameter=name[:SHOWN_CHARS])
        for name, times in found.items()
        if times > 1
    )
    return InvalidRequest(violations=violations[:VIOLATIONS_MAX]) if violations else None
