"""uvicorn on a socket that is already listening; it stops when the service shell tells it to."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from loguru import logger
from starlette.types import ASGIApp

from dreamforge.contracts.hosts import bare
from dreamforge.gateway.http.errors import GatewayPortInUse
from dreamforge.gateway.http.server_protocol import ConnectionLimits, ForgeConfig, ForgeProtocol, cut_late_clients

BACKLOG = 2048
# How often late clients are looked for: a few times in the shortest sensible deadline.
TICKS_BETWEEN_CUTS = 5
# Files beside those of event streams: other requests, the log, the database, the object store.
OTHER_FILES = 512
# Of these, connections that are not event streams; beyond them, those that have sent no request are closed.
OTHER_CONNECTIONS = 384
# Clients of a websocket say little.
SOCKET_MESSAGE_BYTES = 64 * 1024
# The kernel drops a peer that has taken nothing for this long; accepted sockets inherit it (Linux).
UNREAD_MILLISECONDS = 60_000


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: `runtime.service` owns the signals."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ConnectionLimits,
        drain_seconds: float,
        keep_alive_seconds: int,
        trusted_proxies: tuple[str, ...] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`drain_seconds` bounds how long open requests may take once the server stops, `keep_alive_seconds` how long
        a connection may be idle. Only `trusted_proxies` may say who sent a request, and by which scheme. `tls`: what
        it speaks TLS with; None: plain HTTP."""
        super().__init__(
            ForgeConfig(
                app,
                limits=limits,
                http=ForgeProtocol,
                ws="websockets-sansio",
                ws_max_size=SOCKET_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ssl_context_factory=None if tls is None else (lambda _config, _default: tls),
                forwarded_allow_ips=list(trusted_proxies),
                timeout_keep_alive=keep_alive_seconds,
                timeout_graceful_shutdown=round(drain_seconds),
            )
        )

    async def on_tick(self, counter: int) -> bool:
        """uvicorn's clock: ten times a second."""
        if counter % TICKS_BETWEEN_CUTS == 0:
            cut_late_clients(self.server_state.connections)
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers."""
        yield

    async def finish(self, serving: "asyncio.Task[None]") -> None:
        """Accept nothing more, and wait until open requests have been answered."""
        self.should_exit = True
        await asyncio.wait({serving})


def listen(host: str, port: int) -> socket.socket:
    """Bind the port before anything else is done. Errors: GatewayPortInUse."""
    try:
        address = socket.getaddrinfo(bare(host), port, type=socket.SOCK_STREAM)[0]
        # The protocol is named, for asyncio turns Nagle's algorithm off only where it reads TCP: 40 ms a reply else.
        listener = socket.socket(*address[:3])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
        listener.bind(address[4])
        listener.listen(BACKLOG)
    except OSError as error:
        raise GatewayPortInUse(host=host, port=port, reason=error.strerror or str(error)) from error
    listener.setblocking(False)
    return listener


def allow_files(wanted: int) -> None:
    """Raise the limit of open files: each stream is one, and most systems allow a process only 1,024 by default."""
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
