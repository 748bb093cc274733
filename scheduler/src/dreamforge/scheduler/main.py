"""Wiring of the scheduler service."""

import asyncio

from loguru import logger

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime import ids, retry
from dreamforge.runtime.bus import NATS_ERRORS, ApiError, connect
from dreamforge.runtime.health import HealthServer
from dreamforge.runtime.service import main as run_service
from dreamforge.runtime.service import until_stopped_or_broken
from dreamforge.runtime.streams import ensure_streams
from dreamforge.scheduler.loop import Scheduler
from dreamforge.scheduler.settings import SchedulerSettings


async def run(settings: SchedulerSettings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Health answers from the beginning; ready once the log has been folded."""
    scheduler: Scheduler | None = None

    async def folded() -> None:
        if scheduler is None or not scheduler.caught_up:
            raise DependencyAway(dependency="log", reason="not folded yet")

    health = HealthServer(settings.health_host, settings.health_port, {"nats": folded})
    health.start()
    try:
        bus = await retry.until_it_works("NATS", lambda: connect(settings.nats_url, "scheduler"), *NATS_ERRORS)
        await retry.until_it_works(
            "JetStream", lambda: ensure_streams(bus, replicas=settings.stream_replicas), DependencyAway, ApiError
        )
        scheduler = Scheduler(bus, settings, ids.new_id())
        tasks = scheduler.tasks()
        await scheduler.ready.wait()
        logger.info("scheduler is ready")
        await until_stopped_or_broken(stop, *tasks)
        await scheduler.close()
        await bus.close()
    finally:
        health.stop()


def main() -> None:
    """The body of `python -m dreamforge.scheduler`."""
    settings = SchedulerSettings()
    run_service("scheduler", settings, lambda stop: run(settings, stop))
