"""The bodies of ComfyUI's API: JSON, whatever its type says, and forms with an image."""

import json
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from dreamforge.gateway.facades.comfyui.refusals import refused
from dreamforge.gateway.http.errors import NotJson, UnsupportedMedia
from dreamforge.gateway.routes.common import dependencies_of
from dreamforge.gateway.submit.submit import body_of

FORM = "multipart/form-data"
FILES_MAX, FIELDS_MAX = 2, 20
# The editor of ComfyUI sends its own form of a workflow along, which is larger and is not kept.
BODY_FACTOR = 16


async def json_object(request: Request) -> dict[str, Any]:  # Any: JSON
    """The fields of a body; none of an empty one. Errors: BodyTooLarge, NotJson.

    ComfyUI reads JSON without looking at its type, and clients send it as a form or as text. Pages of other sites are
    kept out by their origin.
    """
    body = await body_of(request, dependencies_of(request).limits.body_bytes * BODY_FACTOR)
    if not body.strip():
        return {}
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotJson(reason=str(error)) from None
    if not isinstance(fields, dict):
        raise NotJson(reason="it must be an object")
    return fields


async def image_form(request: Request, name: str = "image") -> tuple[bytes, dict[str, str]]:
    """The image of a form, and its other fields. Errors: BodyTooLarge, UnsupportedMedia, WorkflowRefused."""
    given = request.headers.get("content-type", "")
    if not given.lower().startswith(FORM):
        raise UnsupportedMedia(given=given[:80], allowed=(FORM,))
    limits = dependencies_of(request).limits
    body = await body_of(request, limits.upload_bytes + limits.body_bytes)

    async def stream() -> Any:  # Any: an asynchronous generator of bytes
        yield body

    try:
        parser = MultiPartParser(request.headers, stream(), max_files=FILES_MAX, max_fields=FIELDS_MAX)
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise refused("invalid_form", "The form cannot be read", str(error)) from None
    files = [value for key, value in form.multi_items() if key == name and isinstance(value, UploadFile)]
    if len(files) != 1:
        raise refused("invalid_form", "The form needs one file", f"it has {len(files)} files named {name}")
    fields = {key: value for key, value in form.multi_items() if isinstance(value, str)}
    return await files[0].read(), fields
