"""NATS, Postgres and S3 of a local stack: embedded, unless settings name others; supervised like the services."""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from dreamforge.cli.stack.plan import ending, restart_delay_seconds
from dreamforge.cli.stack_record import RunningProcess
from dreamforge.runtime.embedded import EmbeddedError, EmbeddedServer, NatsServer, PostgresServer, S3Server
from dreamforge.runtime.embedded.nats_server import ServerTls

# The setting that names a server, and the embedded one that replaces it.
OTHER_KINDS: tuple[tuple[str, type[EmbeddedServer]], ...] = (
    ("database_url", PostgresServer),
    ("s3_endpoint", S3Server),
)

# Between two looks at a server that runs.
HEALTH_SECONDS = 5.0
# In a row: one may fail because the machine is busy, or was suspended.
FAILURES_BEFORE_RESTART = 3
# A server needs some for its journal; nats-server and Postgres write segments of 8 and 16 MB.
ROOM_BYTES = 64 * 2**20


def embedded_servers(
    folder: Path,
    given: Collection[str],
    *,
    runner_ids: Collection[str] = (),
    prefix: str = "",
    nats_port: int | None = None,
    tls: ServerTls | None = None,
) -> tuple[EmbeddedServer, ...]:
    """The servers to start in `folder`: those that no setting names. `given` are the names of given settings.

    nats_port, tls: for a NATS that other machines reach.
    """
    nats: Callable[[Path], EmbeddedServer]
    nats = partial(NatsServer, runner_ids=runner_ids, prefix=prefix, streams=True, port=nats_port, tls=tls)
    kinds: tuple[tuple[str, str, Callable[[Path], EmbeddedServer]], ...]
    kinds = (("nats_url", NatsServer.name, nats), *((setting, kind.name, kind) for setting, kind in OTHER_KINDS))
    return tuple(make(folder / name) for setting, name, make in kinds if setting not in given)


async def start_all(servers: Collection[EmbeddedServer]) -> None:
    """Start all concurrently. Errors: as EmbeddedServer.start; then none is left running."""
    results = await asyncio.gather(*(server.start() for server in servers), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    if failures:
        await stop_all(servers)
        raise failures[0]


async def stop_all(servers: Collection[EmbeddedServer]) -> None:
    """Stop all concurrently. Errors: those of the first that could not be stopped, once the others are."""
    results = await asyncio.gather(*(server.stop() for server in servers), return_exceptions=True)
    for failure in (result for result in results if isinstance(result, BaseException)):
        raise failure


def running_servers(servers: Collection[EmbeddedServer]) -> tuple[RunningProcess, ...]:
    """The processes that run now."""
    return tuple(
        RunningProcess(name=process.name, pid=process.pid, address=process.address, log=process.log_path)
        for server in servers
        for process in server.processes()
    )


async def supervise_server(
    server: EmbeddedServer, on_event: Callable[[str, str], None], on_restart: Callable[[], None]
) -> None:
    """Restart a server on the same port and data whenever it ends or is of no use any more; until cancelled."""
    while True:
        reason = await _ended_or_unhealthy(server, on_event)
        ends = 0
        if server.is_running:
            await server.stop()
        while not server.is_running:
            ends += 1
            pause_seconds = restart_delay_seconds(ends)
            on_event(server.name, f"{reason}; restarting in {pause_seconds:g} s")
            await asyncio.sleep(pause_seconds)
            try:
                await server.restart()
            except EmbeddedError as error:
                reason = str(error)
        on_event(server.name, "is running again")
        on_restart()


async def _ended_or_unhealthy(server: EmbeddedServer, on_event: Callable[[str, str], None]) -> str:
    """Wait until a server ends, or runs and does not work, and a restart may help; why."""
    ended = asyncio.ensure_future(server.wait())
    failures, waiting = 0, False
    try:
        while not (await asyncio.wait({ended}, timeout=HEALTH_SECONDS))[0]:
            problem = await server.unhealthy()
            failures = failures + 1 if problem else 0
            if failures < FAILURES_BEFORE_RESTART:
                waiting = False
            elif (free := server.free_bytes()) >= ROOM_BYTES:
                return f"does not work ({problem})"
            elif not waiting:  # a server that starts on a full disk is no better
                waiting = True
                on_event(
                    server.name, f"does not work ({problem}); waiting for room in {server.folder}: {free} bytes free"
                )
        return ending(ended.result())
    finally:
        ended.cancel()
