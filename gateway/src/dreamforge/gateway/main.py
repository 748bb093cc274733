"""Wiring: settings, a socket, the gate, uvicorn. Nothing else happens here."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator

import uvicorn
from loguru import logger

from dreamforge.gateway.app import application
from dreamforge.gateway.dependencies import Gate
from dreamforge.gateway.http.errors import PortInUse
from dreamforge.gateway.http.server_protocol import ForgeProtocol
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime.service import lifecycle
from dreamforge.runtime.service.settings import load

BACKLOG = 2048
# Files beside those of event streams: other requests, the log, the database, the object store.
OTHER_FILES = 512
# The kernel gives up on a peer that has taken nothing for this long; accepted sockets inherit it (Linux).
UNREAD_MILLISECONDS = 60_000


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: `runtime.service` owns the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Take the port before anything else is done. Errors: PortInUse."""
    try:
        address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # The protocol is named, for asyncio turns Nagle's algorithm off only where it reads TCP: 40 ms a reply else.
        listener = socket.socket(*address[:3])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
        listener.bind(address[4])
        listener.listen(BACKLOG)
    except OSError as error:
        raise PortInUse(host=host, port=port, reason=error.strerror or str(error)) from error
    listener.setblocking(False)
    return listener


def allow_files(wanted: int) -> None:
    """Each stream is an open file, and most systems allow 1,024 unless a process asks for more: ask."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY or allowed >= wanted:
        return
    granted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, most))
    if granted < wanted:
        logger.warning(
            "only {} files may be open, and {} are wanted: raise the limit (ulimit -Hn) or lower FORGE_GATEWAY_STREAMS",
            granted,
            wanted,
        )


async def run(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """The gateway, until `stop`. Errors: PortInUse, BrokerUnfit."""
    allow_files(settings.gateway_streams + OTHER_FILES)
    await serve(settings, listen(settings.gateway_host, settings.gateway_port), stop)


async def serve(settings: GatewaySettings, listener: socket.socket, stop: asyncio.Event) -> None:
    """Answer on a listening socket until `stop`; then let open requests finish. Errors: BrokerUnfit."""
    host, port = listener.getsockname()[:2]
    gate = Gate(settings)
    config = uvicorn.Config(
        application(gate),
        http=ForgeProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.gateway_drain_seconds),
    )
    server = Server(config)
    logger.info("gateway listens on http://{}:{}", host, port)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    following = asyncio.create_task(gate.run(), name="gate")
    try:
        await _until_stopped(stop, serving, following)
    finally:
        gate.drain()
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)  # open requests finish while the log is still there
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await gate.close()


async def _until_stopped(stop: asyncio.Event, *tasks: "asyncio.Task[None]") -> None:
    """Return at `stop`; raise what ends a task before. Leaves the tasks running."""
    waiter = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({waiter, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiter}:
            task.result()
            raise RuntimeError(f"background task {task.get_name()} ended")
    finally:
        waiter.cancel()


def main() -> None:
    """`python -m dreamforge.gateway`."""
    settings = load(GatewaySettings)
    lifecycle.main("gateway", settings, lambda stop: run(settings, stop))
