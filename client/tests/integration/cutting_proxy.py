"""A TCP proxy in front of a gateway that cuts connections in the middle of an answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PART_BYTES = 1024


@dataclass
class CuttingProxy:
    """`cuts`: after how many bytes of the answer each of the next connections is cut; then they last."""

    upstream: str
    url: str = ""
    cuts: list[int] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    """What each connection was sent first."""
    tasks: set["asyncio.Task[None] | None"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.tasks.add(asyncio.current_task())
        parts = urlsplit(self.upstream)
        left = self.cuts.pop(0) if self.cuts else None
        to_reader, to_writer = await asyncio.open_connection(parts.hostname, parts.port)
        forward: asyncio.Task[None] | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            to_writer.write(head)
            forward = asyncio.create_task(_copy(reader, to_writer))
            while data := await to_reader.read(PART_BYTES):
                data = data if left is None else data[:left]
                left = None if left is None else left - len(data)
                writer.write(data)
                await writer.drain()
                if left == 0:
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            if forward is not None:
                forward.cancel()
            writer.transport.abort()
            to_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PART_BYTES):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def cutting_proxy(upstream: str) -> AsyncIterator[CuttingProxy]:
    """A proxy that listens."""
    proxy = CuttingProxy(upstream)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy
        server.close()
        for task in filter(None, proxy.tasks):
            task.cancel()
        await asyncio.gather(*filter(None, proxy.tasks), return_exceptions=True)
