"""The body of a request as a JSON object, for interfaces whose fields are no model of ours.

Such a body may have 64 MB of images in base64. To parse that at once takes longer than the event loop may stand still,
also in a thread, because the parser holds the interpreter's lock: so long texts are cut out before, and what is left is
short.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from dreamforge.gateway.http.errors import BodyTooLarge, InvalidRequest, NotJson, Violation
from dreamforge.gateway.routes.common import dependencies_of
from dreamforge.gateway.submit.submit import json_body_of

LONG_TEXT_BYTES = 4_096
# Up to here a body is parsed at once, in less than a millisecond.
SMALL_BODY_BYTES = 65_536
_QUOTE, _BACKSLASH = b'"', b"\\"


async def json_object(request: Request, maximum_bytes: int) -> dict[str, Any]:
    """The fields of a body. What is not in long texts may have `limits.body_bytes`.

    Errors: BodyTooLarge, UnsupportedMedia, NotJson, InvalidRequest (it is no object).
    """
    body = await json_body_of(request, maximum_bytes)
    try:
        if len(body) <= SMALL_BODY_BYTES:
            fields = parsed(body, SMALL_BODY_BYTES)
        else:
            fields = await asyncio.to_thread(parsed, body, dependencies_of(request).limits.body_bytes)
    except (ValueError, RecursionError) as error:
        raise NotJson(reason=str(error)) from None
    if not isinstance(fields, dict):
        raise InvalidRequest(violations=(Violation("the body must be a JSON object", ""),))
    return fields


def parsed(body: bytes, maximum_rest_bytes: int) -> object:
    """The value of a JSON document. Errors: ValueError, RecursionError, BodyTooLarge for too much beside long texts.

    >>> parsed(b'{"a": ["' + b"x" * 5000 + b'", 1]}', 100)["a"][1]
    1
    """
    rest, texts = cut_long_texts(body, maximum_rest_bytes)
    return json.loads(rest, parse_constant=_next_of(texts))


def cut_long_texts(body: bytes, maximum_rest_bytes: int) -> tuple[bytes, list[str]]:
    """A document with NaN, which JSON does not have, for each long text; and these texts, in order.

    Errors: BodyTooLarge, UnicodeDecodeError.
    """
    parts, texts, size, at = [], [], 0, 0
    while (start := body.find(_QUOTE, at)) >= 0:
        end = _end_of_text(body, start + 1, maximum_rest_bytes)
        text = _plain(body[start + 1 : end]) if end - start > LONG_TEXT_BYTES else None
        if text is not None:
            texts.append(text)
        parts.append(body[at : end + 1] if text is None else body[at:start] + b"NaN")
        size, at = size + len(parts[-1]), end + 1
        if size > maximum_rest_bytes:
            raise BodyTooLarge(maximum_bytes=maximum_rest_bytes)
    if size + len(body) - at > maximum_rest_bytes:
        raise BodyTooLarge(maximum_bytes=maximum_rest_bytes)
    return b"".join((*parts, body[at:])), texts


def _end_of_text(body: bytes, start: int, maximum_bytes: int) -> int:
    """Where the quote is that ends a text; the end of the body where there is none."""
    at = start
    while (at := body.find(_QUOTE, at)) >= 0:
        first = at
        while first > start and body[first - 1] == _BACKSLASH[0] and at - first <= maximum_bytes:
            first -= 1
        if (at - first) % 2 == 0:
            return at
        at += 1
        if at - start > maximum_bytes:  # of a text with quotes in it, which is no image
            raise BodyTooLarge(maximum_bytes=maximum_bytes)
    return len(body)


def _plain(text: bytes) -> str | None:
    """A text without escapes but those of base64 (a slash, the end of a line); None for any other."""
    for escape, meaning in ((b"\\/", b"/"), (b"\\n", b"\n"), (b"\\r", b"\r")):
        if _BACKSLASH not in text:  # one byte is found ten times faster than two
            break
        text = text.replace(escape, meaning)
    return None if _BACKSLASH in text else text.decode()


def _next_of(texts: list[str]) -> Callable[[str], str]:
    waiting = iter(texts)

    def next_text(name: str) -> str:
        for text in waiting:
            return text
        raise ValueError(f"{name} is not JSON")

    return next_text
