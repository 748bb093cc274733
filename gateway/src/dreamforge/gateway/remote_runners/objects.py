"""The object store as a runner of another machine may use it: it stores pictures under their hash, and reads inputs."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.contracts.pictures.formats import CONTENT_TYPES
from dreamforge.contracts.stored_objects import object_key
from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.http.errors import BodyTooLarge, ObjectRefused, UnsupportedMedia, UploadsFull
from dreamforge.gateway.remote_runners.authentication import authenticated_runner
from dreamforge.runtime.storage.bucket_owner import MARKER
from dreamforge.runtime.storage.objects import upload_key

router = APIRouter(prefix="/v1", dependencies=[Depends(authenticated_runner)])
#: The longest video that a runner renders has less (docs/videos.md).
OBJECT_BYTES_MAX = 512 * 2**20
#: Objects whose bytes may be in memory at once; a runner that is refused tries again.
AT_ONCE = 4
_IMAGE = re.compile(r"images/[0-9a-f]{2}/([0-9a-f]{64})\.png", re.ASCII)
_UPLOAD = re.compile(r"uploads/[0-9a-f]{2}/([0-9a-f]{64})", re.ASCII)


def may_read(key: str) -> bool:
    """Inputs of jobs, and whose bucket it is.

    >>> may_read("uploads/ab/ab" + "0" * 62), may_read("images/ab/ab" + "0" * 62 + ".png"), may_read("uploads/.probe")
    (True, False, False)
    """
    found = _UPLOAD.fullmatch(key)
    return key == MARKER or (found is not None and key == upload_key(found[1]))


def hash_in(key: str) -> str | None:
    """The hash of a picture that may be stored under this key; None for any other key.

    >>> hash_in("images/ab/ab" + "0" * 62 + ".png")[:4], hash_in("uploads/ab/ab" + "0" * 62)
    ('ab00', None)
    """
    found = _IMAGE.fullmatch(key)
    return found[1] if found and key == object_key(found[1]) else None


@router.get("/objects/{key:path}")
async def read_object(request: Request, key: str) -> Response:
    """An input."""
    if not may_read(key):
        raise ArtifactNotFound(artifact_id=key[:200])
    data = await _dependencies(request).objects.get(key)
    return Response(data, media_type="application/octet-stream")


@router.put("/objects/{key:path}", status_code=204)
async def store_object(request: Request, key: str) -> Response:
    """A finished picture, whose bytes must have the hash that its key names."""
    sha256, content_type = hash_in(key), request.headers.get("content-type", "")
    if sha256 is None:
        raise ObjectRefused(key=key[:200], reason="a runner stores pictures only, under images/ and their hash")
    if content_type not in CONTENT_TYPES:
        raise UnsupportedMedia(given=content_type[:80], allowed=CONTENT_TYPES)
    async with _room(request):
        data = await _body(request)
        found = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        if found != sha256:
            raise ObjectRefused(key=key, reason=f"the {len(data)} bytes that came have the hash {found}")
        await _dependencies(request).objects.put(key, data, content_type)
    return Response(status_code=204)


@router.get("/check", status_code=204)
async def check_store(request: Request) -> Response:
    """Whether pictures can be stored now."""
    await _dependencies(request).bucket.check()
    return Response(status_code=204)


@asynccontextmanager
async def _room(request: Request) -> AsyncIterator[None]:
    state = request.app.state
    if state.receiving >= AT_ONCE:
        raise UploadsFull(maximum=AT_ONCE)
    state.receiving += 1
    try:
        yield
    finally:
        state.receiving -= 1


async def _body(request: Request) -> bytes:
    """Errors: BodyTooLarge, before it is all in memory."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > OBJECT_BYTES_MAX:
            raise BodyTooLarge(maximum_bytes=OBJECT_BYTES_MAX)
    return bytes(data)


def _dependencies(request: Request) -> Dependencies:
    found: Dependencies = request.app.state.dependencies
    return found
