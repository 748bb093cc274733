"""What the OpenAPI document says about every route: headers, problems, examples. Values only."""

from typing import Any

from dreamforge.contracts.events import JOB_EVENTS, JobEvent, StepProgressed
from dreamforge.gateway.http.cursor import EVENT_ID_PATTERN
from dreamforge.gateway.http.problems import MEDIA_TYPE, RETRY_AFTER_SECONDS

Json = dict[str, Any]  # Any: parts of a JSON document

_STATUS = {
    400: ("A header, parameter or body cannot be read", "malformed"),
    401: ("An API key is needed (where the gateway asks for one)", "not_authenticated"),
    403: ("The API key does not allow that, or a page of another origin tried to change something", "scope_needed"),
    404: ("There is no such thing", "job_not_found"),
    409: ("The Idempotency-Key was used for a different request, or no write has that sequence", "conflict"),
    410: ("The job that this Idempotency-Key has made was deleted", "job_erased"),
    413: ("The body is too large", "body_too_large"),
    415: ("The body has a type that is not accepted", "unsupported_media_type"),
    416: ("The range begins behind the last byte", "range_not_satisfiable"),
    421: ("The Host header has a name that this gateway does not answer to", "host_not_allowed"),
    422: ("Something in the request cannot be right", "invalid_request"),
    429: ("A quota of the tenant is used up, or the queue is full", "quota_exceeded"),
    500: ("A bug of ours; it was logged under the request id", "internal"),
    503: ("NATS, Postgres or S3 is not available, or the read tables are behind", "dependency_away"),
}
ALWAYS = (401, 403, 421, 429, 500)
IDS: Json = {
    "X-Request-Id": {"schema": {"type": "string"}, "description": "yours if you sent one; in every log line"},
    "traceparent": {"schema": {"type": "string"}, "description": "W3C trace context of this request"},
}
SEQUENCE: Json = {
    "Forge-Sequence": {
        "schema": {"type": "integer", "minimum": 1},
        "description": "log sequence of this write; send it as Forge-Min-Sequence to read your own write",
    },
    "Forge-Log": {
        "schema": {"type": "string", "pattern": "^[0-9a-f]{8}$"},
        "description": "the log that the sequence counts in; send it with it, if NATS may be replaced meanwhile",
    },
}
ELSEWHERE: dict[int | str, Json] = {
    307: {"description": "The picture is at a signed link of the object store (FORGE_GATEWAY_PICTURES_URL)"}
}
RETRY: Json = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds", "example": RETRY_AFTER_SECONDS}}
TENANT: Json = {
    "name": "Forge-Tenant",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "default": "default"},
    "description": "whose job it is; part of the identity of an Idempotency-Key",
}
_KINDS: tuple[type[JobEvent], ...] = (*JOB_EVENTS, StepProgressed)
_TOKENS = tuple(kind.TOKEN for kind in _KINDS)
EVENT_NAMES = "|".join(_TOKENS)
EVENT: Json = {
    "schema": {
        "type": "object",
        "description": "one event of the stream",
        "properties": {
            "id": {"type": "string", "pattern": EVENT_ID_PATTERN},
            "event": {"type": "string", "enum": list(_TOKENS)},
            "data": {"type": "string", "description": "a JSON object"},
        },
    },
    "example": {
        "id": "1042-77-5c9e01ab",
        "event": "step",
        "data": '{"job_id": "...", "sequence": 77, "step": 3, "steps": 20}',
    },
}
KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"},
    "description": "makes a retried POST the same job, forever: the answer then says `Idempotent-Replayed: true`",
    "example": "order-4711",
}
WEBHOOK_KEY: Json = KEY | {
    "description": "makes a retried POST the same webhook: the answer then has the same secret, and says "
    "`Idempotent-Replayed: true`",
}


# Of a route that is read again and again.
UNCHANGED: dict[int | str, Json] = {304: {"description": "It is as the ETag of If-None-Match says", "headers": IDS}}


def image(*content_types: str) -> dict[int | str, Json]:
    """The `responses` of a route that answers with the bytes of an image: all of them, a part, or nothing new."""
    text: Json = {"schema": {"type": "string"}}
    headers = IDS | {
        "ETag": text | {"description": "of the content hash: the bytes under an address never change"},
        "Cache-Control": text | {"description": "immutable: to be kept as long as there is room"},
        "Content-Disposition": text | {"description": "the name under which a browser saves it"},
    }
    content: Json = {each: {"schema": {"type": "string", "format": "binary"}} for each in content_types}
    part: Json = {"Content-Range": text | {"description": "which bytes, of how many"}}
    return {
        200: {"description": "The bytes", "headers": headers, "content": content},
        206: {"description": "The range that was asked for", "headers": headers | part, "content": content},
        304: {"description": "The bytes are those of If-None-Match", "headers": headers},
    }


def problems(*statuses: int) -> dict[int | str, Json]:
    """The `responses` of a route: these problems, each with an example; those of ALWAYS are always possible."""
    return {status: _problem(status) for status in (*statuses, *ALWAYS)}


def _problem(status: int) -> Json:
    description, code = _STATUS[status]
    example: Json = {
        "type": f"/docs#problem-{code}",
        "title": description,
        "status": status,
        "detail": description,
        "code": code,
        "request_id": "0198a0c4-5f00-7abc-8def-0123456789ab",
    }
    if status == 422:
        example["errors"] = [{"pointer": "/steps", "detail": "input should be less than or equal to 150 (it is 900)"}]
    return {
        "description": description,
        "headers": IDS | (RETRY if status in (429, 503) else {}),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemReply"}, "example": example}},
    }
