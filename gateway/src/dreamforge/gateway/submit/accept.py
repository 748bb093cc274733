"""From the bytes of a body to the command that makes the job. Pure and total: a command, or an InvalidInput."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from dreamforge.contracts.jobs.decisions import RequestJob
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.request.image_size import ImageSizes
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.resolve import NONE_READ, resolve
from dreamforge.contracts.request.values import Determinism
from dreamforge.contracts.validation import describe_validation_error
from dreamforge.gateway.http.errors import VIOLATIONS_MAX, InvalidRequest, NotJson, Violation, pointer
from dreamforge.gateway.submit.body import Submission

SEED_BITS = 53
Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class SubmissionContext:
    """The client, the job's id and the time: everything about a submission that is not in its body."""

    job_id: str
    now: datetime
    tenant: str
    idempotency_key: str | None
    random_seed: int
    """The seed when the body has none and there is no key; with a key it follows from the job id."""
    determinism: Determinism | None = None
    """The tenant's, where the body has none."""


def accept(
    body: bytes,
    context: SubmissionContext,
    *,
    schema: type[Submission],
    models: Mapping[str, ModelDescriptor],
    limits: Limits,
    image_sizes: ImageSizes = NONE_READ,
) -> RequestJob:
    """The command that a body asks for.

    A repeat with the same key and no seed gets the same seed again, so it is the same request.
    Errors: NotJson, InvalidRequest, and those of `resolve`; ImageSizeNeeded where it takes the size of an image that is
    not in `image_sizes`.
    """
    submission = parse(body, schema)
    given = vars(submission).copy()
    keyed = context.idempotency_key is not None
    if given["seed"] is None:
        given["seed"] = seed_of(context.job_id) if keyed else context.random_seed
    if given["determinism"] is None:
        given["determinism"] = context.determinism
    request = resolve(given, models, limits, image_sizes)
    return RequestJob(
        job_id=context.job_id,
        now=context.now,
        tenant=context.tenant,
        priority=submission.priority,
        request=request,
        idempotency_key=context.idempotency_key,
        fingerprint=fingerprint(body) if keyed else None,
        deadlines=submission.deadlines,
        written_prompt=given["prompt"] if given["prompt"] != request.prompt else None,
    )


def parse(body: bytes, schema: type[Body]) -> Body:
    """Validate once, all fields. Errors: NotJson, InvalidRequest with what is wrong in each field."""
    try:
        return schema.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise refusal(error, schema) from None


def refusal(error: ValidationError, schema: type[BaseModel]) -> NotJson | InvalidRequest:
    """What pydantic found, as one of our errors."""
    first: Any = error.errors(include_url=False, include_input=False)[0]  # Any: pydantic's own error dictionaries
    if first["type"] == "json_invalid":
        return NotJson(reason=str(first["ctx"]["error"]))
    if first["type"] == "model_type" and not first["loc"]:
        return InvalidRequest(violations=(Violation("the body must be a JSON object", ""),))
    found = describe_validation_error(error, known=schema.model_fields, show_values=True, maximum=VIOLATIONS_MAX)
    return InvalidRequest(violations=tuple(Violation(message, pointer(where)) for where, message in found))


def seed_of(job_id: str) -> int:
    """The seed of a request with a key and without a seed: the same for every repeat.

    >>> seed_of("J") == seed_of("J") != seed_of("K")
    True
    """
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:8]) >> (64 - SEED_BITS)


def fingerprint(body: bytes) -> str | None:
    """A hash of the fields of a body, independent of order, blanks and nulls: identifies a repeat. None: no object.

    >>> fingerprint(b'{"a": 1, "b": null}') == fingerprint(b'{ "a":1 }') != fingerprint(b'{"a": 2}')
    True
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    given = {key: value for key, value in fields.items() if value is not None}
    text = json.dumps(given, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
