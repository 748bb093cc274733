"""NATS, Postgres and S3 of a local stack: ours, unless the settings name others; kept alive like the services."""

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

from dreamforge.cli.stack.plan import ending, restart_delay_seconds
from dreamforge.cli.stack.record import RunningProcess
from dreamforge.runtime.embedded import EmbeddedError, EmbeddedServer, NatsServer, PostgresServer, S3Server

# The setting that names a server, and ours when it does not.
KINDS: tuple[tuple[str, type[EmbeddedServer]], ...] = (
    ("nats_url", NatsServer),
    ("database_url", PostgresServer),
    ("s3_endpoint", S3Server),
)


def own_servers(folder: Path, said: Collection[str]) -> tuple[EmbeddedServer, ...]:
    """The servers to start in `folder`: those that no setting names. `said` are the settings' names."""
    return tuple(kind(folder / kind.name) for setting, kind in KINDS if setting not in said)


async def start_all(servers: Collection[EmbeddedServer]) -> None:
    """All at once. Errors: as EmbeddedServer.start; then none is left running."""
    results = await asyncio.gather(*(server.start() for server in servers), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        await stop_all(servers)
        raise failures[0]


async def stop_all(servers: Collection[EmbeddedServer]) -> None:
    """One after the other, the last started first."""
    for server in reversed(tuple(servers)):
        await server.stop()


def running_servers(servers: Collection[EmbeddedServer]) -> tuple[RunningProcess, ...]:
    """Those that run now."""
    return tuple(
        RunningProcess(name=process.name, pid=process.pid, address=process.address, log=process.log_path)
        for server in servers
        for process in server.processes()
    )


async def keep_server(server: EmbeddedServer, say: Callable[[str, str], None], changed: Callable[[], None]) -> None:
    """Start it again, on the same port and data, whenever it ends; until cancelled."""
    ends = 0
    while True:
        reason = ending(await server.wait())
        ends = 0
        while not server.is_running:
            ends += 1
            pause_seconds = restart_delay_seconds(ends)
            say(server.name, f"{reason}; starting it again in {pause_seconds:g} s")
            await asyncio.sleep(pause_seconds)
            try:
                await server.restart()
            except EmbeddedError as error:
                reason = str(error)
        say(server.name, "is back")
        changed()
