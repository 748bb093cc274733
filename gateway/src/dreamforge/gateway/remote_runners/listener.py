"""Serves runners of other machines beside the API, on an address of their own."""

from functools import partial

from loguru import logger

from dreamforge.gateway.dependencies import Dependencies
from dreamforge.gateway.http.server import Server, listen
from dreamforge.gateway.http.server_protocol import ConnectionLimits
from dreamforge.gateway.remote_runners.certificates import certificates_of
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime.network import authority
from dreamforge.runtime.service.lifetime import Lifetime

#: A picture or a video over a slow line: 512 MiB at 5 Mbit/s.
BODY_SECONDS = 900.0
#: A runner has a few at most: one a request that it has open.
CONNECTIONS = 256


def serve_remote_runners(settings: GatewaySettings, lifetime: Lifetime, dependencies: Dependencies) -> None:
    """Answer them until the gateway stops. Errors: GatewayPortInUse, InvalidSettings."""
    from dreamforge.gateway.remote_runners.app import remote_application  # 25 ms of a start without such runners

    certificates = certificates_of(settings.remote)
    context = certificates.context()
    listener = listen(settings.remote.host, settings.remote.port)
    limits = ConnectionLimits(
        head_seconds=settings.gateway_head_seconds,
        body_seconds=BODY_SECONDS,
        head_bytes=settings.gateway_head_bytes,
        connections=CONNECTIONS,
    )
    server = Server(
        remote_application(dependencies),
        limits=limits,
        drain_seconds=settings.gateway_drain_seconds,
        keep_alive_seconds=settings.gateway_keep_alive_seconds,
        tls=context,
    )
    serving = lifetime.spawn(server.serve(sockets=[listener]), "remote runners")
    lifetime.on_close(partial(server.finish, serving))
    lifetime.spawn(certificates.keep_current(context), "certificates")
    logger.info("runners of other machines are taken on https://{}", authority(*listener.getsockname()[:2]))
