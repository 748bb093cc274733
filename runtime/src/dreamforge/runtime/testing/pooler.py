"""A small pooler in front of a real Postgres, in transaction or session mode, to see what our sessions do behind one.

Like pgbouncer it answers the start of a session itself, with a process id of its own, and lends server connections
last in, first out. It knows the simple and the extended protocol, no COPY and no notifications.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

import psycopg

ENCRYPTION_REQUESTS = (80877103, 80877104)  # SSLRequest, GSSENCRequest of the protocol
REPORTED = ("server_version", "client_encoding", "DateStyle", "TimeZone", "integer_datetimes", "IntervalStyle")
INVENTED_PID = 7  # no server process of ours has it


@dataclass(slots=True)
class _Server:
    """A connection to Postgres that psycopg has opened; we speak on its socket."""

    session: "psycopg.AsyncConnection[tuple[object, ...]]"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def close(self) -> None:
        self.writer.close()
        await self.session.close()


@dataclass(slots=True)
class _Pooler:
    url: str
    by_transaction: bool
    idle: list[_Server] = field(default_factory=list)
    opened: list[_Server] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: _Server | None = None
        try:
            server = await self._lend()
            await _greet(reader, writer, server)
            while (request := await _message(reader))[:1] != b"X":
                server = server or await self._lend()
                server.writer.write(request)
                if request[:1] in b"QS" and await _answer(server, writer) == b"I" and self.by_transaction:
                    self.idle.append(server)
                    server = None
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            if server is not None:
                self.idle.append(server)
            writer.close()

    async def _lend(self) -> _Server:
        if self.idle:
            return self.idle.pop()
        session = await psycopg.AsyncConnection.connect(self.url)
        reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=os.dup(session.fileno())))
        self.opened.append(server := _Server(session, reader, writer))
        return server


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


async def _answer(server: _Server, writer: asyncio.StreamWriter) -> bytes:
    """Pass on what the server says until it is ready for the next request; the state of its transaction."""
    while True:
        answer = await _message(server.reader)
        writer.write(answer)
        if answer[:1] == b"Z":
            return answer[5:]


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server: _Server) -> None:
    while True:
        size, code = struct.unpack("!ii", await reader.readexactly(8))
        await reader.readexactly(size - 8)
        if code not in ENCRYPTION_REQUESTS:
            break
        writer.write(b"N")
    writer.write(_packed(b"R", struct.pack("!i", 0)))
    for name in REPORTED:
        value = server.session.info.parameter_status(name) or ""
        writer.write(_packed(b"S", f"{name}\0{value}\0".encode()))
    writer.write(_packed(b"K", struct.pack("!ii", INVENTED_PID, 0)) + _packed(b"Z", b"I"))


def _packed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


@asynccontextmanager
async def pooler(database_url: str, *, by_transaction: bool) -> AsyncIterator[str]:
    """The URL of the same database through a pooler, on a port of its own."""
    made = _Pooler(database_url, by_transaction)
    listener = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    parts = urlsplit(database_url)
    user = f"{parts.username}:{parts.password}@" if parts.password else f"{parts.username}@"
    try:
        yield urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{port}"))
    finally:
        listener.close()
        for server in made.opened:
            await server.close()
