"""Rendered images: a redirect to the object store, valid for a quarter of an hour."""

import re

from fastapi import APIRouter
from starlette.responses import RedirectResponse, Response

from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.gateway.documents import route_descriptions as doc
from dreamforge.gateway.read import queries
from dreamforge.gateway.routes.common import ConsistentDependencies
from dreamforge.runtime.storage.objects import PRESIGNED_MINUTES

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])
_ARTIFACT_ID = re.compile(r"[0-9a-f-]{36}-[0-9]{1,9}-[0-9]{1,9}", re.ASCII)
# A cached redirect must not outlive the URL it leads to.
CACHE = f"private, max-age={PRESIGNED_MINUTES * 60 // 2}"


@router.get(
    "/{artifact_id}",
    status_code=307,
    response_class=Response,
    responses={
        307: {
            "description": f"To the bytes; the address is valid for {PRESIGNED_MINUTES} minutes",
            "headers": doc.IDS | {"Location": {"schema": {"type": "string", "format": "uri"}}},
        },
        **doc.problems(404, 409, 422, 503),
    },
)
async def fetch_artifact(dependencies: ConsistentDependencies, artifact_id: str) -> Response:
    """A picture. Those of attempts that did not succeed are not shown."""
    if _ARTIFACT_ID.fullmatch(artifact_id) is None:
        raise ArtifactNotFound(artifact_id=artifact_id[:80])
    row = await dependencies.database.row(queries.artifact(artifact_id))
    if row is None or not await dependencies.objects.exists(row["object_key"]):
        raise ArtifactNotFound(artifact_id=artifact_id)
    return RedirectResponse(dependencies.objects.presigned_url(row["object_key"]), 307, {"Cache-Control": CACHE})
