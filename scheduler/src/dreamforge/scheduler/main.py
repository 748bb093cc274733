"""The scheduler process."""

from loguru import logger

from dreamforge.contracts.log.permissions import SCHEDULER
from dreamforge.runtime import ids
from dreamforge.runtime.log.probe import LogProbe
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.service import shell
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.scheduler.scheduler import Scheduler
from dreamforge.scheduler.settings import SchedulerSettings


async def start(settings: SchedulerSettings, lifetime: Lifetime) -> None:
    """Connect, then fold and schedule. At the end the leadership key is given back first."""
    bus = await open_log(settings, SERVICE.name, user=SCHEDULER)
    lifetime.on_close(bus.close)
    lifetime.ready_when("nats", LogProbe(bus, SERVICE.name, settings.nats_monitor_urls).check)
    scheduler = Scheduler(bus, settings, ids.new_id())
    lifetime.on_close(scheduler.close)
    lifetime.ready_when("log", scheduler.check)
    lifetime.spawn(_announce(scheduler), "announce", may_end=True)
    for name, loop in scheduler.loops().items():
        lifetime.spawn(loop, name)


async def _announce(scheduler: Scheduler) -> None:
    await scheduler.ready.wait()
    logger.info("scheduler is ready")


SERVICE = shell.Service("scheduler", SchedulerSettings, start, {"nats": "not connected", "log": "not folded yet"})


def main() -> None:
    """The body of `python -m dreamforge.scheduler`."""
    shell.main(SERVICE)
