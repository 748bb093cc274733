"""Images to start from: uploaded once, then named by their hash."""

import re
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.contracts.replies import UploadReply
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import identity_of
from dreamforge.gateway.http.errors import UploadNotFound
from dreamforge.gateway.http.stored_bytes import StoredImage, respond_with
from dreamforge.gateway.routes.common import dependencies_of, keep_upload_for, reply, room_for_upload, tenant_of
from dreamforge.gateway.submit.image_headers import ANY_BYTES, FORMATS, require_image_type
from dreamforge.gateway.submit.submit import body_of
from dreamforge.runtime.storage.objects import upload_key

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
        **doc.problems(403, 413, 415, 422, 429, 503),
    },
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys((*FORMATS, ANY_BYTES), _BINARY)}},
)
async def keep_upload(request: Request) -> Response:
    """Upload a picture, as the body itself: PNG, JPEG, WebP or AVIF by its content; of an animation its first frame."""
    dependencies = dependencies_of(request)
    require_image_type(request.headers.get("content-type"))
    with room_for_upload(request):
        kept = await keep_upload_for(request, await body_of(request, dependencies.limits.upload_bytes))
    return reply(kept, 201, {"Location": kept.url})


@router.head("/{sha256}", include_in_schema=False)
@router.get(
    "/{sha256}",
    response_class=Response,
    responses={**doc.image(*FORMATS), **doc.problems(404, 416, 422, 503)},
)
async def fetch_upload(request: Request, sha256: str) -> Response:
    """An uploaded picture."""
    if _SHA256.fullmatch(sha256) is None:
        raise UploadNotFound(sha256=sha256[:64])
    if not await dependencies_of(request).uploads.visible(sha256, identity_of(request).sees):
        raise UploadNotFound(sha256=sha256)
    image = StoredImage(upload_key(sha256), sha256, f"upload-{sha256[:12]}")
    try:
        return await respond_with(request, dependencies_of(request).objects, image)
    except ArtifactNotFound:
        raise UploadNotFound(sha256=sha256) from None


@router.delete("/{sha256}", status_code=204, response_class=Response, responses=doc.problems(403, 404, 422, 503))
async def delete_upload(request: Request, sha256: str) -> Response:
    """Delete an uploaded picture. Jobs that started from it keep their record, and the picture cannot be read there.

    A job that is still open gets it; the bytes go after that, unless another tenant has uploaded the same picture.
    """
    uploads, identity = dependencies_of(request).uploads, identity_of(request)
    if _SHA256.fullmatch(sha256) is None or not await uploads.visible(sha256, identity.sees):
        raise UploadNotFound(sha256=sha256[:64])
    await uploads.delete(sha256, tenant_of(request))
    return Response(status_code=204)
