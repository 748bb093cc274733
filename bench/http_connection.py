"""A minimal HTTP client, so that a benchmark measures the server: raw HTTP/1.1 over keep-alive connections."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(slots=True)
class HttpResponse:
    """Status, headers (lower case) and parsed body of one response."""

    status: int
    headers: dict[str, str]
    body: Any  # Any: JSON


class HttpConnection:
    """One keep-alive connection to the gateway; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to the host and port of a URL."""
        parts = urlsplit(url)
        host, port = parts.hostname or "127.0.0.1", parts.port or 80
        reader, writer = await asyncio.open_connection(host, port)
        return cls(reader, writer, f"{host}:{port}")

    async def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> HttpResponse:
        """One POST of a JSON body."""
        return await self.post_bytes(path, json.dumps(body).encode(), "application/json", headers)

    async def post_bytes(
        self, path: str, data: bytes, content_type: str, headers: dict[str, str] | None = None
    ) -> HttpResponse:
        """One POST of bytes of any type."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {content_type}\r\n{extra}"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        return await self._read_response()

    async def get(self, target: str, headers: dict[str, str] | None = None) -> HttpResponse:
        """One GET of a path with its query."""
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._writer.write(f"GET {target} HTTP/1.1\r\nHost: {self._host}\r\n{extra}\r\n".encode())
        return await self._read_response()

    async def _read_response(self) -> HttpResponse:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        pairs = (line.split(":", 1) for line in lines[1:] if ":" in line)
        headers = {name.lower(): value.strip() for name, value in pairs}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return HttpResponse(int(lines[0].split(" ")[1]), headers, json.loads(body) if body else None)

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()
