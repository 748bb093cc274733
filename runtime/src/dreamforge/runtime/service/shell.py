"""What the four services have in common: settings, logs, health, readiness, signals and an ordered close."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import uvloop
from loguru import logger

from dreamforge.contracts.errors import BrokerUnfit, ForgeError
from dreamforge.runtime.sandbox.privileges import refuse_inspection
from dreamforge.runtime.service import tracing
from dreamforge.runtime.service.gc_tuning import SERVICE_ALLOCATIONS, gc_of_a_service
from dreamforge.runtime.service.health import Check, HealthServer, not_ready
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.service.settings import EXIT_SETTINGS, CommonSettings, InvalidSettings, load
from dreamforge.runtime.service.settings_on_stdin import take_settings
from dreamforge.runtime.service.signals import STOP_SIGNALS, stop_on_signals
from dreamforge.runtime.service.telemetry import configure_logging

EXIT_ERROR = 1
# What a service writes, its user alone may read: 0600 and 0700.
PRIVATE_UMASK = 0o077
# Starting again cannot help before a person has changed settings, here or of a server.
NEEDS_OTHER_SETTINGS = (InvalidSettings, BrokerUnfit)
S = TypeVar("S", bound=CommonSettings)


@dataclass(frozen=True, slots=True)
class Service(Generic[S]):
    """What is particular to one service.

    `start(settings, lifetime)` brings it up; it may wait for its dependencies as long as it takes. `not_ready` names
    the readiness checks, each with what is missing until `start` sets it; None: the service answers /healthz,
    /readyz and /metrics on its own port. `allocations`: of new containers, between two searches for cycles.
    """

    name: str
    settings: type[S]
    start: Callable[[S, Lifetime], Coroutine[Any, Any, None]]  # Any: as asyncio declares
    not_ready: Mapping[str, str] | None = None
    allocations: int = SERVICE_ALLOCATIONS


async def serve(service: Service[S], settings: S, stop: asyncio.Event) -> None:
    """Run a service until `stop` is set. Health is answered from the beginning to the end."""
    checks: dict[str, Check] = {name: not_ready(name, why) for name, why in (service.not_ready or {}).items()}
    lifetime = Lifetime(stop, checks)
    if service.not_ready is not None:
        health = HealthServer(settings.health_host, settings.health_port, checks)
        health.start()
        # In a thread: it waits for the request in progress, which may be waiting for a check on this loop.
        lifetime.on_close(partial(asyncio.to_thread, health.stop))
    await lifetime.run(partial(service.start, settings))


def main(service: Service[S]) -> None:
    """The body of every `python -m dreamforge.<service>`.

    Exits with EXIT_SETTINGS and one line for each wrong setting, or a server that does not fit; with 1 and one line on
    another error of ours.
    """
    refuse_inspection()
    os.umask(PRIVATE_UMASK)
    take_settings()
    settings = load(service.settings)
    configure_logging(service.name, level=settings.log_level, as_json=settings.log_json)
    try:
        with (
            gc_of_a_service(service.allocations),
            tracing.exporting(service.name, settings.traces_sampled),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(_serve_until_signal(service, settings))
    except ForgeError as error:
        logger.critical("{} cannot run: {}", service.name, error)
        sys.exit(EXIT_SETTINGS if isinstance(error, NEEDS_OTHER_SETTINGS) else EXIT_ERROR)
    logger.info("{} stopped", service.name)


async def _serve_until_signal(service: Service[S], settings: S) -> None:
    stop = stop_on_signals(*STOP_SIGNALS, on_first=lambda number: logger.info("{} received: finishing", number.name))
    await serve(service, settings, stop)
