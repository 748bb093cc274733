"""All three servers of a machine without Docker, as one."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from dreamforge.runtime.embedded.folder import FolderLock
from dreamforge.runtime.embedded.nats_server import NatsServer
from dreamforge.runtime.embedded.postgres_server import PostgresServer
from dreamforge.runtime.embedded.s3_server import S3Server
from dreamforge.runtime.embedded.server import EmbeddedServer, ServerProcess


class EmbeddedStack:
    """NATS, Postgres and S3 below one folder: started together, stopped one by one in reverse order.

    Data, ports taken and secrets lie in `folder/nats`, `folder/postgres` and `folder/s3`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nats_port: int | None = None,
        postgres_port: int | None = None,
        fsync: bool = True,
        runner_ids: Collection[str] = (),
    ) -> None:
        """Ports as in EmbeddedServer, runners as in NatsServer; fsync=False only for tests that do not show
        durability. NATS has our streams."""
        self.folder = folder.absolute()
        self.nats = NatsServer(self.folder / "nats", port=nats_port, fsync=fsync, runner_ids=runner_ids, streams=True)
        self.postgres = PostgresServer(self.folder / "postgres", port=postgres_port, fsync=fsync)
        self.s3 = S3Server(self.folder / "s3")
        self._lock = FolderLock(self.folder, "stack")

    @property
    def servers(self) -> tuple[EmbeddedServer, ...]:
        """In the order of starting."""
        return (self.nats, self.postgres, self.s3)

    def settings_env(self) -> dict[str, str]:
        """The environment variables of a service that uses these servers."""
        return self.nats.settings_env() | self.postgres.settings_env() | self.s3.settings_env()

    def service_env(self, user: str) -> dict[str, str]:
        """The same for a process that is that user of the bus."""
        return self.settings_env() | self.nats.service_env(user)

    def processes(self) -> list[ServerProcess]:
        """The servers that run now."""
        return [process for server in self.servers for process in server.processes()]

    async def start(self) -> None:
        """Returns once all three answer. Errors: as EmbeddedServer.start; then none is left running."""
        await self._lock.acquire()
        try:
            started = await asyncio.gather(*(s.start() for s in self.servers), return_exceptions=True)
            for failure in started:
                if isinstance(failure, BaseException):
                    raise failure
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        try:
            for server in reversed(self.servers):
                await server.stop()
        finally:
            self._lock.release()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
