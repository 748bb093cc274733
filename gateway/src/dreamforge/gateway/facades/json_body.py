"""The body of a request as a JSON object, for interfaces whose fields are no model of ours."""

import json
from typing import Any

from starlette.requests import Request

from dreamforge.gateway.http.errors import InvalidRequest, NotJson, Violation
from dreamforge.gateway.submit.submit import json_body_of


async def json_object(request: Request, maximum_bytes: int) -> dict[str, Any]:
    """The fields of a body. Errors: BodyTooLarge, UnsupportedMedia, NotJson, InvalidRequest (it is no object)."""
    body = await json_body_of(request, maximum_bytes)
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotJson(reason=str(error)) from None
    if not isinstance(fields, dict):
        raise InvalidRequest(violations=(Violation("the body must be a JSON object", ""),))
    return fields
