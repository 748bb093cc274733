"""The gateway process."""

import socket
from functools import partial

from loguru import logger

from dreamforge.gateway.app import application
from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.http.server import OTHER_CONNECTIONS, OTHER_FILES, Server, allow_files, listen
from dreamforge.gateway.http.server_protocol import ConnectionLimits
from dreamforge.gateway.remote_runners.listener import serve_remote_runners
from dreamforge.gateway.settings import GatewaySettings, parts_of
from dreamforge.runtime.network import authority
from dreamforge.runtime.sandbox.restrict import missing
from dreamforge.runtime.service import shell
from dreamforge.runtime.service.lifetime import Lifetime


async def start(settings: GatewaySettings, lifetime: Lifetime) -> None:
    """Take the port, then answer. Errors: GatewayPortInUse."""
    allow_files(settings.gateway_streams + OTHER_FILES)
    for line in missing():
        logger.warning("uploads and templates are read by processes with fewer bounds: {}", line)
    await answer(settings, lifetime, listen(settings.gateway_host, settings.gateway_port))


async def answer(settings: GatewaySettings, lifetime: Lifetime, listener: socket.socket) -> None:
    """Answer on a listening socket. At the end event streams are told to reconnect and open requests finish first."""
    dependencies = Dependencies(settings)
    lifetime.on_close(dependencies.close)
    lifetime.spawn(dependencies.run(), "dependencies")
    limits = ConnectionLimits(
        head_seconds=settings.gateway_head_seconds,
        body_seconds=settings.gateway_body_seconds,
        head_bytes=settings.gateway_head_bytes,
        connections=settings.gateway_streams + OTHER_CONNECTIONS,
    )
    server = Server(
        application(dependencies),
        limits=limits,
        drain_seconds=settings.gateway_drain_seconds,
        keep_alive_seconds=settings.gateway_keep_alive_seconds,
        trusted_proxies=parts_of(settings.gateway_trusted_proxies),
    )
    serving = lifetime.spawn(server.serve(sockets=[listener]), "http")
    lifetime.on_close(partial(server.finish, serving))
    if settings.remote.host:
        serve_remote_runners(settings, lifetime, dependencies)
    lifetime.on_close(dependencies.drain)
    logger.info("gateway listens on http://{}", authority(*listener.getsockname()[:2]))


SERVICE = shell.Service("gateway", GatewaySettings, start)


def main() -> None:
    """The body of `python -m dreamforge.gateway`."""
    shell.main(SERVICE)
