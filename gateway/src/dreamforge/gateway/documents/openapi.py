"""The OpenAPI document of the routes, with the limits of the installation in it. Pure."""

from functools import partial
from threading import Lock
from typing import Any

from fastapi import FastAPI

from dreamforge.contracts.replies import ProblemReply
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.batches.body import BatchSubmission
from dreamforge.gateway.http.authentication import needed_scope
from dreamforge.gateway.submit.body import submission_for

Json = dict[str, Any]  # Any: a JSON document
REFERENCES = "#/components/schemas/{model}"

ABOUT = """Image generation on your own GPUs, where every fact is an event in a durable log.

Limits of this installation: a prompt has at most {prompt_chars} characters, a picture at most {pixels} pixels,
a render at most {steps} steps, a job at most {images} images, a body at most {body_bytes} bytes, an upload at most
{upload_bytes} bytes and {upload_pixels} pixels, and at most {open_jobs} jobs may be open.

Every write answers `Forge-Sequence`; a read that sends it back as `Forge-Min-Sequence` sees that write.
Every error is an RFC 9457 problem document. Every response carries `X-Request-Id` and `traceparent`.
"""


class ApiDocument:
    """The document of an application, made when it is first asked for: that takes half a second."""

    def __init__(self, app: FastAPI, limits: Limits, root_path: str = "") -> None:
        self._make = partial(describe, app, limits, root_path)
        self._made: Json | None = None
        self._lock = Lock()

    def read(self) -> Json:
        """The document; from any thread."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


def describe(app: FastAPI, limits: Limits, root_path: str = "") -> Json:
    """The document of the routes, with the limits and the address of this installation in it."""
    app.description = ABOUT.format(**limits.model_dump())
    document = app.openapi()
    document["servers"] = [{"url": root_path or "/", "description": "where this document is from"}]
    schemas: Json = document["components"]["schemas"]
    for model in (submission_for(limits), BatchSubmission, ProblemReply):
        schema = model.model_json_schema(ref_template=REFERENCES)
        schemas |= schema.pop("$defs", {})
        schemas[schema["title"]] = schema
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "an API key: `dreamforge keys create NAME`"}
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            scope = needed_scope(method.upper(), path)
            if scope is not None:
                operation["security"] = [{}, {"key": []}]
                operation["x-scope"] = scope.value
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _not_null(parameter["schema"])
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _not_null(schema: Json) -> Json:
    """An optional parameter is left out, never null: null is only how Python declares it."""
    kinds: list[Json] = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    return {key: value for key, value in schema.items() if key not in ("anyOf", "default")} | kinds[0]
