"""A real HTTP server with faults that a test chooses."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

#: Set by a test for one path; called with the 1-based number of the request for it.
Fault = Callable[[int], str]


@dataclass
class Request:
    """What a client asked for."""

    path: str
    headers: dict[str, str]


@dataclass
class FaultyServer:
    """Serves `files`; `faults[path]` names the fault of the n-th request for it.

    Faults: drop (half of the body, then a closed connection), unsaid (the same without a length), short and long
    (a length that is not the body's), ignore-range, wrong (other bytes), changed (other bytes and another ETag), gzip,
    a status such as 404, 429 or 500, redirect:URL, and fine.
    """

    files: dict[str, bytes]
    faults: dict[str, Fault] = field(default_factory=dict)
    etags: bool = True
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    open_now: int = 0
    open_most: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            request = _parse((await reader.readuntil(b"\r\n\r\n")).decode())
            self.requests.append(request)
            writer.write(self._reply(request))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open_now -= 1
            writer.close()

    def _reply(self, request: Request) -> bytes:
        path = request.path.lstrip("/")
        number = sum(each.path == request.path for each in self.requests)
        word = self.faults.get(path, lambda _: "fine")(number)
        if path not in self.files and word == "fine":
            word = "404"
        if word.startswith("redirect:"):
            return _head("302 Found", {"Location": word.removeprefix("redirect:"), "Content-Length": "0"})
        if word.isdigit():
            return _head(f"{word} Fault", {"Content-Length": "0", "Retry-After": "0"})
        return self._content(path, word, request)

    def _content(self, path: str, word: str, request: Request) -> bytes:
        body = self.files[path]
        if word in ("wrong", "changed"):
            body = body[: len(body) // 2] + bytes(byte ^ 1 for byte in body[len(body) // 2 :])
        etag = f'"{hashlib.sha256(body).hexdigest()[:8]}"'
        headers = {"ETag": etag} if self.etags else {}
        status, start = "200 OK", _start(request, etag)
        if start and word != "ignore-range":
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = "206 PartialFile Content", body[start:]
        length = len(body) + {"short": -3, "long": 3}.get(word, 0)
        headers["Content-Length"] = str(length)
        if word == "unsaid":
            del headers["Content-Length"]
        if word == "gzip":
            headers["Content-Encoding"] = "gzip"
        return _head(status, headers) + (body[: len(body) // 2] if word in ("drop", "unsaid") else body)


def _start(request: Request, etag: str) -> int:
    """The first byte to send: as RFC 9110 has it, the whole file where If-Range names another content."""
    if request.headers.get("if-range", etag) != etag:
        return 0
    return int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])


def _parse(text: str) -> Request:
    first, *lines = text.strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Request(first.split(" ")[1].partition("?")[0], {key.lower(): value.strip() for key, _, value in pairs})


def _head(status: str, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{key}: {value}" for key, value in headers.items()), "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def weights_of(data: bytes) -> bytes:
    """A safetensors file of one tensor."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


@asynccontextmanager
async def serving(files: dict[str, bytes]) -> AsyncIterator[FaultyServer]:
    """The server, on a free port of this machine."""
    server = FaultyServer(files)
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    async with listening:
        host, port = listening.sockets[0].getsockname()[:2]
        server.url = f"http://{host}:{port}"
        yield server
