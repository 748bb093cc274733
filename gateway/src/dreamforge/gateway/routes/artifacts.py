"""Rendered images, and their thumbnails: the gateway passes the bytes on, whatever address it is reached by."""

import re
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.errors import ArtifactNotFound, JobNotFound
from dreamforge.contracts.file_names import image_file_name
from dreamforge.contracts.pictures.formats import CONTENT_TYPES
from dreamforge.contracts.stored_objects import object_key
from dreamforge.contracts.tenants import Metadata as TenantMetadata
from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.http.byte_range import etag_of, is_known
from dreamforge.gateway.http.stored_bytes import StoredImage, image_headers, respond_with
from dreamforge.gateway.read import queries, thumbnails
from dreamforge.gateway.routes.common import JOB_ID_CHARS, ConsistentDependencies, visible_job

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])
_ARTIFACT_ID = re.compile(r"[0-9a-f-]{36}-[0-9]{1,9}-[0-9]{1,9}", re.ASCII)
Metadata = Annotated[
    TenantMetadata | None,
    Query(
        description="none: without recipe, texts and signature; the mark that it was generated stays. "
        "Left out: as the tenant has set it, or else full",
        json_schema_extra={"enum": ["full", "none"]},
    ),
]
RESPONSES: dict[str, Any] = {  # Any: what FastAPI takes
    "response_class": Response,
    "responses": {**doc.image(*CONTENT_TYPES), **doc.ELSEWHERE, **doc.problems(404, 409, 416, 422, 503)},
}
SMALL: dict[str, Any] = RESPONSES | {
    "responses": {**doc.image(*CONTENT_TYPES), **doc.problems(404, 409, 416, 422, 503)}
}


@router.head("/{artifact_id}", include_in_schema=False)
@router.get("/{artifact_id}", **RESPONSES)
async def fetch_artifact(
    request: Request, dependencies: ConsistentDependencies, artifact_id: str, metadata: Metadata = None
) -> Response:
    """A picture, from the moment when it is finished.

    Where the installation names a public address of its object store, a redirect to a link there, valid for minutes.
    """
    image, tenant = await _find(request, dependencies, artifact_id)
    images = dependencies.images_for(tenant, metadata)
    try:
        if images is dependencies.stripped_images:
            image = replace(image, sha256=f"{image.sha256}-none")
        elif dependencies.direct_links and (
            elsewhere := await dependencies.direct_links.respond(request, dependencies.objects, image)
        ):
            return elsewhere
        return await respond_with(request, images, image)
    except ArtifactNotFound:
        raise ArtifactNotFound(artifact_id=artifact_id) from None


@router.head("/{artifact_id}/thumbnail", include_in_schema=False)
@router.get("/{artifact_id}/thumbnail", **SMALL)
async def fetch_thumbnail(request: Request, dependencies: ConsistentDependencies, artifact_id: str) -> Response:
    """A small copy of a picture, WebP with sides of at most 512 pixels; the picture itself where none can be made."""
    image, _ = await _find(request, dependencies, artifact_id)
    etag = etag_of(f"{image.sha256}-{thumbnails.SIDE_PX}")
    headers = image_headers(etag, image.file_name.rpartition(".")[0] + ".webp")
    if is_known(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    try:
        small = await dependencies.thumbnails.of(image.sha256, image.key)
        if small:
            return Response(small, headers=headers, media_type=thumbnails.CONTENT_TYPE)
        return await respond_with(request, dependencies.objects, image)
    except ArtifactNotFound:
        raise ArtifactNotFound(artifact_id=artifact_id) from None


def parts_of_artifact(artifact_id: str) -> tuple[str, int, int]:
    """The job that an artifact is of, its attempt and its index there. Errors: ArtifactNotFound if it is no id."""
    if _ARTIFACT_ID.fullmatch(artifact_id) is None:
        raise ArtifactNotFound(artifact_id=artifact_id[:80])
    attempt, index = artifact_id[JOB_ID_CHARS + 1 :].split("-")
    return artifact_id[:JOB_ID_CHARS], int(attempt), int(index)


async def _find(request: Request, dependencies: Dependencies, artifact_id: str) -> tuple[StoredImage, str]:
    """An image, and the tenant whose it is. Errors: ArtifactNotFound, DependencyAway."""
    try:
        await visible_job(request, parts_of_artifact(artifact_id)[0])
    except JobNotFound:
        raise ArtifactNotFound(artifact_id=artifact_id) from None
    row = await dependencies.database.row(queries.artifact(artifact_id))
    if row is None:
        raise ArtifactNotFound(artifact_id=artifact_id)
    name = image_file_name(row["prompt"] or "", row["job_id"], row["index"], row["content_type"])
    return StoredImage(object_key(row["sha256"]), row["sha256"], name), row["tenant"] or ""
