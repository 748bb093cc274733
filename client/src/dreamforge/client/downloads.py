"""Bytes of the gateway, to a file or to memory: resumed after a lost connection, checked against their hash."""

import hashlib
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import httpx

from dreamforge.client.errors import DamagedDownload
from dreamforge.client.session import GatewaySession
from dreamforge.client.transport import Opened, Request

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
# Of a hash in the name of a part file: a part of other bytes is never continued.
PART_HASH_CHARS = 12


class Sink(Protocol[T_co]):
    """Where the bytes go. Its methods may wait for a disk. Errors: OSError."""

    @property
    def size_bytes(self) -> int:
        """How many are there."""

    def open(self) -> None:
        """Before the first byte: what is there already counts."""

    def write(self, part: bytes) -> None:
        """Append."""

    def restart(self) -> None:
        """Forget everything."""

    def sha256(self) -> str:
        """Of everything so far."""

    def finish(self) -> T_co:
        """All bytes are there."""

    def close(self) -> None:
        """At the end in any case."""


class MemorySink:
    """Keeps the bytes."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def size_bytes(self) -> int:
        """How many there are."""
        return len(self._data)

    def open(self) -> None:
        """Nothing to do."""

    def write(self, part: bytes) -> None:
        """Append."""
        self._data += part

    def restart(self) -> None:
        """Forget everything."""
        self._data.clear()

    def sha256(self) -> str:
        """Of everything so far."""
        return hashlib.sha256(self._data).hexdigest()

    def finish(self) -> bytes:
        """The bytes."""
        return bytes(self._data)

    def close(self) -> None:
        """Nothing to do."""


class FileSink:
    """A file that is there when all of it is; until then its bytes are in a file beside it.

    With a hash, that file stays after a failure, and the next download of the same bytes goes on from it.
    """

    def __init__(self, path: Path, sha256: str = "") -> None:
        self._path = path
        self._keeps = bool(sha256)
        self._part = path.with_name(".".join(filter(None, (path.name, sha256[:PART_HASH_CHARS], "part"))))
        self.size_bytes = 0

    def open(self) -> None:
        """Continue a part that is there, else begin one; the folder is made."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("a+b" if self._keeps else "w+b")
        self._file.seek(0)
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        while block := self._file.read(1 << 20):
            self._hash.update(block)
            self.size_bytes += len(block)

    def write(self, part: bytes) -> None:
        """Append."""
        self._file.write(part)
        self._hash.update(part)
        self.size_bytes += len(part)

    def restart(self) -> None:
        """Forget everything."""
        self._file.truncate(0)
        self._file.seek(0)
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def sha256(self) -> str:
        """Of everything so far."""
        return self._hash.hexdigest()

    def finish(self) -> Path:
        """Put the file in its place."""
        self._file.close()
        return self._part.replace(self._path)

    def close(self) -> None:
        """Close the part; one without a hash, or without a byte, is of no use and is removed."""
        if hasattr(self, "_file"):
            self._file.close()
        if not (self._keeps and self.size_bytes):
            self._part.unlink(missing_ok=True)


class Download(Generic[T]):
    """One download. With a hash it is resumed where it broke; without one it begins anew, for it may have changed."""

    def __init__(
        self,
        session: GatewaySession,
        url: str,
        sink: Sink[T],
        sha256: str = "",
        query: dict[str, str | int] | None = None,
    ) -> None:
        self._session = session
        self._url = session.connection.absolute(url)
        self._sink = sink
        self._sha256 = sha256
        self._query = query or {}

    async def run(self) -> T:
        """Fetch what is missing, check it, and finish the sink.

        Errors: DamagedDownload, OSError, and as `GatewaySession.send`.
        """
        work = self._session.transport.work
        try:
            await work(self._sink.open)
            resumed = self._sink.size_bytes > 0
            await self._fetch()
            if self._sha256 and (found := await work(self._sink.sha256)) != self._sha256:
                await work(self._sink.restart)
                if not resumed:
                    raise DamagedDownload(self._url, self._sha256, found)
                await self._fetch()  # what an earlier call had left was damaged
                if (found := await work(self._sink.sha256)) != self._sha256:
                    await work(self._sink.restart)
                    raise DamagedDownload(self._url, self._sha256, found)
            return await work(self._sink.finish)
        finally:
            await work(self._sink.close)

    async def _fetch(self) -> None:
        failures = 0
        while True:
            before = self._sink.size_bytes
            try:
                async with self._session.transport.open(self._request()) as opened:
                    if await self._take(opened):
                        return
                    failure: httpx.Response | httpx.TransportError = opened.response
            except httpx.TransportError as error:
                failure = error
            failures = 1 if self._sink.size_bytes > before else failures + 1
            await self._session.pause_or_raise(failure, failures)

    def _request(self) -> Request:
        headers = self._session.newest.headers()
        if self._sink.size_bytes and self._sha256:
            headers["Range"] = f"bytes={self._sink.size_bytes}-"
        return Request("GET", self._url, self._query, headers)

    async def _take(self, opened: Opened) -> bool:
        """Write the body; False: it is a refusal."""
        status, work = opened.response.status_code, self._session.transport.work
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and self._sink.size_bytes:
            return True  # everything was there already; the hash decides
        if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            await opened.read()
            return False
        if status == httpx.codes.OK and self._sink.size_bytes:
            await work(self._sink.restart)
        async for part in opened.parts():
            await work(self._sink.write, part)
        return True


def picture_download(session: GatewaySession, url: str, sink: Sink[T], sha256: str = "") -> Download[T]:
    """Of a picture as it was rendered: a tenant may have set downloads to be without recipes, which are other bytes."""
    return Download(session, url, sink, sha256, {"metadata": "full"})
