"""A picture of another program, or of ours, as a request."""

from typing import Any, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.pictures.foreign.imported import Tool
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.authentication import identity_of
from dreamforge.gateway.http.errors import NothingToImport
from dreamforge.gateway.imports.mapping import ImportContext, images_in, map_request
from dreamforge.gateway.imports.replies import ImportReply
from dreamforge.gateway.routes.common import dependencies_of, reply, room_for_upload
from dreamforge.gateway.submit.image_headers import ANY_BYTES, FORMATS, require_image_type
from dreamforge.gateway.submit.submit import body_of

router = APIRouter(prefix="/v1/imports", tags=["imports"])
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}  # Any: part of a JSON document


@router.post(
    "",
    response_model=ImportReply,
    responses=doc.problems(403, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": {"required": True, "content": dict.fromkeys((*FORMATS, ANY_BYTES), _BINARY)}},
)
async def import_picture(request: Request) -> Response:
    """Read the request in a picture, as the body itself: of A1111, Forge, ComfyUI, InvokeAI, SwarmUI, Fooocus, NovelAI
    or ours. Nothing is stored and no job is made: the reply has the fields of one, and what could not be one.
    """
    dependencies, identity = dependencies_of(request), identity_of(request)
    require_image_type(request.headers.get("content-type"))
    with room_for_upload(request):
        found = await dependencies.uploads.request_in(await body_of(request, dependencies.limits.upload_bytes))
    if found is None:
        raise NothingToImport(programs=get_args(Tool))
    images = await dependencies.uploads.nameable(images_in(found.fields), identity.sees)
    context = ImportContext(dependencies.models(), dependencies.limits, dependencies.schema, images)
    return reply(map_request(found, context))
