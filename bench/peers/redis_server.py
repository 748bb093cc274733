"""A Redis (or Valkey) server for one measurement, with its data in a folder of its own."""

import asyncio
import subprocess
from pathlib import Path
from typing import ClassVar, Literal

from dreamforge.runtime.embedded.ports import LOOPBACK
from dreamforge.runtime.embedded.server import EmbeddedServer, Launch

#: `always`: each write is in the append-only file and fsynced before its answer. `none`: nothing is on the disk.
Fsync = Literal["always", "none"]


class RedisServer(EmbeddedServer):
    """Use as `async with`."""

    name: ClassVar[str] = "redis"
    program: ClassVar[str] = "redis-server"

    def __init__(self, folder: Path, binary: Path, fsync: Fsync) -> None:
        super().__init__(folder)
        self._binary, self._fsync = binary, fsync

    @property
    def url(self) -> str:
        """For clients."""
        return f"redis://{self.address}/0"

    def settings_env(self) -> dict[str, str]:
        return {"BENCH_QUEUE_URL": self.url}

    async def _prepare(self) -> None:
        """Nothing: it makes its files itself."""

    def _launch(self) -> Launch:
        """No snapshots in either case: they would come at times of their own."""
        files = (
            ("--appendonly", "yes", "--appendfsync", "always") if self._fsync == "always" else ("--appendonly", "no")
        )
        where = ("--bind", LOOPBACK, "--port", str(self.port), "--dir", str(self.folder))
        return Launch((str(self._binary), *where, "--save", "", *files))

    async def _check(self) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        writer.write(b"PING\r\n")
        answer = await reader.readline()
        writer.close()
        if answer != b"+PONG\r\n":
            raise ConnectionError(f"it answers {answer!r}")


def version_of(binary: Path) -> str:
    """As the server says it: `Valkey server v=9.1.2 ...`."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return " ".join(said.split()[:3])
