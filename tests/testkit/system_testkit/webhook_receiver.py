"""A server of a tenant that gets webhooks: in the loop of a test, or as a process that a test kills.

    python -m system_testkit.webhook_receiver PORT SECRET FILE

As a process it verifies each delivery by the public library, and answers it when it is in the file, durably: what a
sender was told has arrived is then there, whenever the process is killed.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook

Headers = dict[str, str]


@dataclass
class WebhookReceiver:
    """It can be stopped and started again at its address. `got`: what it has answered with success."""

    port: int = 0
    status: int = 200
    take: Callable[[Headers, bytes], None] = lambda _, __: None
    got: list[tuple[Headers, bytes]] = field(default_factory=list)
    tried: int = 0
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections."""
        assert self._server is not None
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:]) if name}
        body = await reader.readexactly(int(headers["content-length"]))
        self.tried += 1
        if self.status == 200:
            self.take(headers, body)
            self.got.append((headers, body))
        more = "Location: http://127.0.0.1:1/\r\n" if self.status == 302 else ""
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 0\r\nConnection: close\r\n{more}\r\n".encode())
        await writer.drain()
        writer.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    def types(self, job_id: str) -> list[str]:
        """What arrived of a job, in order."""
        found = [json.loads(body) for _, body in self.got]
        return [each["type"] for each in found if each["data"]["job_id"] == job_id]


def deliveries_in(file: Path) -> list[dict[str, Any]]:
    """What the process has taken: `id` of the delivery, and the `event`."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


async def _serve(port: int, secret: str, file: Path) -> None:
    with file.open("a") as out:

        def take(headers: Headers, body: bytes) -> None:
            event = Webhook(secret).verify(body, headers)
            out.write(json.dumps({"id": headers["webhook-id"], "event": event}) + "\n")
            out.flush()
            os.fsync(out.fileno())

        await WebhookReceiver(port, take=take).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
