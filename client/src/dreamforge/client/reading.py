"""Documents of the gateway as values. Fields that only a newer gateway knows are ignored. Pure."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from dreamforge.client.errors import UnreadableReply, WaitTimeout
from dreamforge.client.session import GatewaySession, Json
from dreamforge.client.streams import DeadlinePassed
from dreamforge.contracts.validation import describe_validation_error, dotted

T = TypeVar("T")
Reply = TypeVar("Reply", bound=BaseModel)
PAGE_ITEMS = 200
FAULTS_SHOWN = 3


def path_of(*parts: str) -> str:
    """A path of the API, of parts that may have any character.

    >>> path_of("jobs", "a/b")
    '/v1/jobs/a%2Fb'
    """
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def read_as(kind: type[Reply], document: Json, source: str) -> Reply:
    """A document as a value. Errors: UnreadableReply."""
    try:
        return kind.model_validate(document, extra="ignore")
    except ValidationError as error:
        faults = describe_validation_error(error, maximum=FAULTS_SHOWN)
        raise UnreadableReply(source, "; ".join(f"{dotted(where)} {what}" for where, what in faults)) from error


def body_of(values: dict[str, Any]) -> Json:  # Any: parameters
    """What is sent: without None, values as JSON."""
    found: Json = to_jsonable_python({name: value for name, value in values.items() if value is not None})
    return found


async def pages_of(
    session: GatewaySession, kind: type[Reply], path: str, items: str, **query: str | int | None
) -> AsyncGenerator[Reply, None]:
    """Every item of a list, page by page, as far as they are asked for."""
    cursor = None
    while True:
        page = await session.read(path, cursor=cursor, **query)
        for item in page[items]:
            yield read_as(kind, item, f"GET {path}")
        cursor = page["next_cursor"]
        if cursor is None:
            return


async def within(items: AsyncGenerator[T, None], what: str, timeout: float | None) -> AsyncGenerator[T, None]:
    """The items of a stream with a deadline. Errors: WaitTimeout when it has passed."""
    try:
        async with aclosing(items):
            async for item in items:
                yield item
    except DeadlinePassed:
        raise WaitTimeout(what, timeout or 0.0) from None
