"""A zip file that is made while it is sent: one part of one object is in memory at a time."""

import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from loguru import logger
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dreamforge.contracts.errors import ArtifactNotFound, DependencyAway
from dreamforge.gateway.http.stored_bytes import ObjectBody, cut
from dreamforge.runtime.storage.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """A file in the zip file: an object of the store, or bytes that are at hand."""

    name: str
    at: datetime
    key: str = ""
    size_bytes: int = 0
    data: bytes = b""


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken. It cannot seek, so sizes and checksums follow each file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]  # what zipfile writes
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


async def zip_parts(objects: ObjectStore, entries: Sequence[ZipEntry]) -> AsyncIterator[bytes]:
    """The bytes of the zip file; images are stored as they are. Errors: ArtifactNotFound, DependencyAway."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for entry in entries:
            info = zipfile.ZipInfo(entry.name, entry.at.timetuple()[:6])
            info.external_attr = 0o644 << 16
            with archive.open(info, "w") as file:
                file.write(entry.data)
                body = ObjectBody(objects, entry.key, range(entry.size_bytes))
                more = bool(entry.size_bytes)
                while more:
                    data, more = await body.next()
                    file.write(data)
                    yield sink.take()
    yield sink.take()


class ZipResponse(Response):
    """Sends a zip file. Where the store fails in the middle, the connection is cut: the client sees that bytes miss."""

    media_type = "application/zip"

    def __init__(self, objects: ObjectStore, entries: Sequence[ZipEntry], file_name: str) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        disposition = f'attachment; filename="{file_name}"'
        self.init_headers({"Content-Disposition": disposition, "Cache-Control": "no-store"})
        del self.headers["content-length"]
        self._objects, self._entries = objects, entries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        client = Request(scope, receive)
        try:
            async for data in zip_parts(self._objects, self._entries):
                if await client.is_disconnected():
                    return
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except (ArtifactNotFound, DependencyAway) as error:
            logger.warning("the object store failed in the middle of a zip file: {}", error)
            await cut(scope, receive)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})
