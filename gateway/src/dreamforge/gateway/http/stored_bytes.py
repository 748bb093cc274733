"""Objects of the store as responses: the gateway passes their bytes on, in parts, so clients need only its address."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dreamforge.contracts.errors import ArtifactNotFound, DependencyAway
from dreamforge.contracts.pictures.formats import CONTENT_TYPES
from dreamforge.gateway.http.byte_range import Unsatisfiable, etag_of, is_known, requested_range
from dreamforge.gateway.http.server_protocol import ABORT
from dreamforge.runtime.storage.objects import ObjectHead

# What one response holds in memory, beside as much in the buffer of its connection.
PART_BYTES = 256 * 1024
# Content-addressed: the bytes under an address never change. Private, since an address may be a secret of its owner.
IMMUTABLE = "private, max-age=31536000, immutable"


class StoredObjects(Protocol):
    """The part of an object store that a response needs."""

    async def head(self, key: str) -> ObjectHead:
        """Size and type. Errors: ArtifactNotFound, DependencyAway."""
        ...

    async def get(self, key: str, *, offset: int = 0, length: int = 0) -> bytes:
        """A part of an object. Errors: ArtifactNotFound, DependencyAway."""
        ...


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of the object store, and how a client saves it."""

    key: str
    sha256: str
    file_name: str


def image_headers(etag: str, file_name: str) -> dict[str, str]:
    """What every response with an image says, 304 included. `file_name` is ASCII without quotes."""
    return {
        "ETag": etag,
        "Cache-Control": IMMUTABLE,
        "Content-Disposition": f'inline; filename="{file_name}"',
    }


async def respond_with(request: Request, objects: StoredObjects, image: StoredImage) -> Response:
    """The bytes, the part that is asked for, or 304. Nothing is sent before the store has given the first part.

    Errors: ArtifactNotFound, DependencyAway, HTTPException(416).
    """
    etag, asked = etag_of(image.sha256), request.headers
    headers = image_headers(etag, image.file_name) | {"Accept-Ranges": "bytes"}
    if is_known(asked.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    head = await objects.head(image.key)
    wanted = asked.get("range") if request.method == "GET" else None  # RFC 9110, 14.2: of no other method
    try:
        part = requested_range(wanted, head.size_bytes, if_range=asked.get("if-range"), etag=etag)
    except Unsatisfiable:
        beyond = {"Content-Range": f"bytes */{head.size_bytes}"}
        raise HTTPException(416, f"the image has {head.size_bytes} bytes", beyond) from None
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{head.size_bytes}"
    headers["Content-Type"] = head.content_type if head.content_type in CONTENT_TYPES else "application/octet-stream"
    body = ObjectBody(objects, image.key, range(head.size_bytes) if part is None else part)
    if request.method != "HEAD":
        await body.load()
    return ObjectResponse(body, 200 if part is None else 206, headers)


class ObjectBody:
    """A range of an object, read part by part: a slow client holds one part, and no connection to the store."""

    def __init__(self, objects: StoredObjects, key: str, whole: range) -> None:
        self._objects, self._key = objects, key
        self.length_bytes = len(whole)
        self._parts = [whole[at : at + PART_BYTES] for at in range(0, len(whole), PART_BYTES)]
        self._loaded = b""

    async def load(self) -> None:
        """Read the first part now. Errors: ArtifactNotFound, DependencyAway."""
        if self._parts:
            self._loaded = await self._read(self._parts.pop(0))

    async def next(self) -> tuple[bytes, bool]:
        """The next part, and whether there are more. Errors: ArtifactNotFound, DependencyAway."""
        if not self._loaded and self._parts:
            await self.load()
        data, self._loaded = self._loaded, b""
        return data, bool(self._parts)

    async def _read(self, part: range) -> bytes:
        data = await self._objects.get(self._key, offset=part.start, length=len(part))
        if len(data) != len(part):
            reason = f"{self._key} gave {len(data)} bytes of {len(part)} from {part.start} on"
            raise DependencyAway(dependency="s3", reason=reason)
        return data


class ObjectResponse(Response):
    """Sends a body. Where the store fails in the middle, the connection is cut: the client sees that bytes miss."""

    def __init__(self, body: ObjectBody, status: int, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.background = None
        self.body = b""
        self.init_headers({**headers, "Content-Length": str(body.length_bytes)})
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        more, client = True, Request(scope, receive)
        while more and not await client.is_disconnected():
            try:
                data, more = await self._body.next()
            except (ArtifactNotFound, DependencyAway) as error:
                logger.warning("the object store failed in the middle of an image: {}", error)
                await cut(scope, receive)
                return
            await send({"type": "http.response.body", "body": data, "more_body": more})


async def cut(scope: Scope, receive: Receive) -> None:
    """Close the connection, and wait until the server knows it."""
    abort = scope.get("extensions", {}).get(ABORT)
    if abort is None:
        return
    abort()
    while (await receive())["type"] != "http.disconnect":
        pass
