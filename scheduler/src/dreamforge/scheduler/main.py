"""Wiring of the scheduler service."""

import asyncio

from loguru import logger

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime import ids
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.service.health import HealthServer
from dreamforge.runtime.service.lifecycle import main as run_service
from dreamforge.runtime.service.lifecycle import until_stopped_or_broken
from dreamforge.scheduler.scheduler import Scheduler
from dreamforge.scheduler.settings import SchedulerSettings

SERVICE = "scheduler"


async def run(settings: SchedulerSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Health answers from the beginning; ready once the log has been folded."""
    service = _Service(settings)
    health = HealthServer(
        settings.health_host, settings.health_port, {"nats": service.connected, "log": service.folded}
    )
    health.start()
    try:
        await until_stopped_or_broken(stop, asyncio.create_task(service.run(), name=SERVICE))
    finally:
        health.stop()


class _Service:
    """Connects, schedules until cancelled, and leaves in order: lease first, appends in flight next."""

    def __init__(self, settings: SchedulerSettings) -> None:
        self._settings = settings
        self._bus: Bus | None = None
        self._scheduler: Scheduler | None = None

    async def connected(self) -> None:
        """Readiness. Errors: DependencyAway."""
        if self._bus is None or not self._bus.connected:
            raise DependencyAway(dependency="nats", reason="not connected")

    async def folded(self) -> None:
        """Readiness. Errors: DependencyAway."""
        if self._scheduler is None or not self._scheduler.caught_up:
            raise DependencyAway(dependency="log", reason="not folded yet")

    async def run(self) -> None:
        self._bus = bus = await open_log(self._settings, SERVICE)
        self._scheduler = scheduler = Scheduler(bus, self._settings, ids.new_id())
        announce = asyncio.create_task(_announce(scheduler))
        try:
            await until_stopped_or_broken(asyncio.Event(), *scheduler.tasks())
        finally:
            announce.cancel()
            await scheduler.close()
            await bus.close()


async def _announce(scheduler: Scheduler) -> None:
    await scheduler.ready.wait()
    logger.info("scheduler is ready")


def main() -> None:
    """The body of `python -m dreamforge.scheduler`."""
    settings = SchedulerSettings()
    run_service(SERVICE, settings, lambda stop: run(settings, stop))
