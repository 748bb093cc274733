"""Images to start from: uploaded once, then named by their hash."""

import re
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.errors import UploadNotFound
from dreamforge.gateway.read.replies import UploadReply
from dreamforge.gateway.routes.artifacts import CACHE
from dreamforge.gateway.routes.common import dependencies_of, reply
from dreamforge.gateway.submit.inspect_image import FORMATS, media_type
from dreamforge.gateway.submit.submit import body_of
from dreamforge.runtime.storage.objects import PRESIGNED_MINUTES

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}  # Any: part of a JSON document


@router.post(
    "",
    status_code=201,
    response_model=UploadReply,
    responses={
        201: {
            "description": "The picture is stored; the same bytes are always the same upload",
            "headers": doc.IDS | {"Location": {"schema": {"type": "string"}, "description": "the upload"}},
        },
        **doc.problems(403, 413, 415, 422, 503),
    },
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys(FORMATS, _BINARY)}},
)
async def keep_upload(request: Request) -> Response:
    """Upload a picture, as the body itself: one still PNG, JPEG or WebP."""
    dependencies = dependencies_of(request)
    content_type = media_type(request.headers.get("content-type"))
    with dependencies.uploads.room():
        body = await body_of(request, dependencies.limits.upload_bytes)
        kept = await dependencies.uploads.keep(body, content_type)
    return reply(kept, 201, {"Location": kept.url})


@router.get(
    "/{sha256}",
    status_code=307,
    response_class=Response,
    responses={
        307: {
            "description": f"To the bytes; the address is valid for {PRESIGNED_MINUTES} minutes",
            "headers": doc.IDS | {"Location": {"schema": {"type": "string", "format": "uri"}}},
        },
        **doc.problems(404, 422, 503),
    },
)
async def fetch_upload(request: Request, sha256: str) -> Response:
    """An uploaded picture."""
    address = await dependencies_of(request).uploads.address(sha256) if _SHA256.fullmatch(sha256) else None
    if address is None:
        raise UploadNotFound(sha256=sha256[:64])
    return RedirectResponse(address, 307, {"Cache-Control": CACHE})
