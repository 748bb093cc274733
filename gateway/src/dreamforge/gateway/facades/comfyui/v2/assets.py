"""Assets of the API v2: uploads by their SHA-256, finished images by their ids; clients look uploads up by BLAKE3."""

import re
from datetime import datetime

from blake3 import blake3
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dreamforge.gateway.facades import runs
from dreamforge.gateway.facades.comfyui.bodies import image_form, json_object
from dreamforge.gateway.facades.comfyui.names import ArtifactName, UploadName, read_name, upload_name
from dreamforge.gateway.facades.comfyui.v2.jobs import KEPT, Json
from dreamforge.gateway.http.authentication import identity_of
from dreamforge.gateway.http.errors import UploadNotFound
from dreamforge.gateway.routes import artifacts, uploads
from dreamforge.gateway.routes.common import dependencies_of, tenant_of
from dreamforge.runtime import clock

router = APIRouter(prefix="/api/v2/assets", include_in_schema=False)
_HASH = re.compile(r"blake3:([0-9a-f]{64})", re.ASCII)


def problem_json(status: int, code: str, message: str) -> Response:
    """An error of the contract that has no counterpart here."""
    return JSONResponse({"error": {"code": code, "message": message, "details": None}}, status)


@router.post("")
async def upload(request: Request) -> Response:
    """Keep an image; the same bytes are the same asset."""
    data, fields = await image_form(request, "file")
    found = blake3(data).hexdigest()
    expected = fields.get("expected_hash", "")
    if expected and expected != f"blake3:{found}":
        return problem_json(409, "hash_mismatch", f"the bytes have the hash blake3:{found}, not {expected[:80]}")
    known = await _by_hash(request, found)
    sha256 = await runs.keep_image(request, data)
    await dependencies_of(request).uploads.remember_hash(tenant_of(request), found, sha256)
    asset = await _asset(request, sha256, found, fields.get("file_path"))
    return JSONResponse(asset | {"created_new": known is None}, 201)


@router.post("/from-hash")
async def from_hash(request: Request) -> Response:
    """An asset of bytes that are stored already."""
    fields = await json_object(request)
    given = _HASH.fullmatch(str(fields.get("hash", "")))
    sha256 = await _by_hash(request, given[1]) if given is not None else None
    if given is None or sha256 is None:
        return problem_json(404, "blob_not_found", "no upload has this hash: upload the bytes")
    path = fields.get("file_path")
    asset = await _asset(request, sha256, given[1], path if isinstance(path, str) else None)
    return JSONResponse(asset | {"created_new": False}, 201)


@router.get("/by-hash/{text}")
async def by_hash(request: Request, text: str) -> Response:
    """Whether the bytes of a hash are stored."""
    given = _HASH.fullmatch(text)
    if given is None or (sha256 := await _by_hash(request, given[1])) is None:
        return problem_json(404, "blob_not_found", "no upload has this hash: upload the bytes")
    return JSONResponse(await _asset(request, sha256, given[1]))


@router.get("/{asset_id}")
async def read_asset(request: Request, asset_id: str) -> Response:
    """What is known of an upload. Errors: UploadNotFound."""
    match read_name(asset_id):
        case UploadName(sha256):
            return JSONResponse(await _asset(request, sha256))
        case ArtifactName(artifact_id):
            return JSONResponse(await _output(request, artifact_id))
    raise UploadNotFound(sha256=asset_id[:64])


@router.get("/{asset_id}/content")
async def content(request: Request, asset_id: str) -> Response:
    """The bytes, or a part of them. Errors: UploadNotFound, ArtifactNotFound."""
    match read_name(asset_id):
        case UploadName(sha256):
            return await uploads.fetch_upload(request, sha256)
        case ArtifactName(artifact_id):
            await runs.up_to_date(request)
            return await artifacts.fetch_artifact(request, dependencies_of(request), artifact_id)
    raise UploadNotFound(sha256=asset_id[:64])


@router.delete("/{asset_id}")
async def delete(request: Request, asset_id: str) -> Response:
    """Delete an upload; a finished image goes with its job. Errors: UploadNotFound."""
    return await uploads.delete_upload(request, asset_id)


async def _by_hash(request: Request, found: str) -> str | None:
    kept = dependencies_of(request).uploads
    return await kept.by_hash(tenant_of(request), found, identity_of(request).sees)


async def _asset(request: Request, sha256: str, found: str | None = None, path: str | None = None) -> Json:
    head = await dependencies_of(request).uploads.head(sha256, identity_of(request).sees)
    at = head.modified_at or clock.now()
    named = path or upload_name(sha256, head.content_type)
    digest = None if found is None else f"blake3:{found}"
    return _json(request, sha256, at, named) | {
        "hash": digest,
        "size_bytes": head.size_bytes,
        "content_type": head.content_type,
    }


async def _output(request: Request, artifact_id: str) -> Json:
    await runs.up_to_date(request)
    found = await artifacts.fetch_artifact(request, dependencies_of(request), artifact_id)
    described = {
        "hash": None,
        "size_bytes": int(found.headers.get("content-length", 0)),
        "content_type": found.headers.get("content-type", "application/octet-stream"),
        "job_id": artifact_id[:36],
    }
    return _json(request, artifact_id, clock.now(), artifact_id) | described


def _json(request: Request, asset_id: str, at: datetime, path: str) -> Json:
    return {
        "id": asset_id,
        "file_path": path,
        "created_at": at.isoformat(),
        "url": f"{str(request.base_url).rstrip('/')}/api/v2/assets/{asset_id}/content",
        "url_expires_at": (at + KEPT).isoformat(),
        "expires_at": None,
    }
