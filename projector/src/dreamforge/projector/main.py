"""Wiring of the projector process."""

import asyncio

from psycopg import OperationalError
from sqlalchemy.exc import OperationalError as DatabaseAway

from dreamforge import migrations
from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.log.streams import ADVISORIES, PARKED
from dreamforge.projector.gc_pause import seldom_collecting
from dreamforge.projector.maintenance.artifact_collector import collect_for_ever
from dreamforge.projector.parking import park_on
from dreamforge.projector.projector import Projector
from dreamforge.projector.reactions import park_what_was_given_up, react, read_once_more
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.together import together
from dreamforge.runtime import ids
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.service import lifecycle, retry
from dreamforge.runtime.service.health import Check, HealthServer

SERVICE = "projector"


async def run(settings: ProjectorSettings, stop: asyncio.Event) -> None:
    """The projector, until `stop`: health from the beginning, everything else as soon as it is there."""
    progress = _Progress()
    health = HealthServer(settings.health_host, settings.health_port, progress.checks())
    health.start()
    work = asyncio.create_task(_project(settings, progress), name="project")
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        elif progress.projector is not None:
            await progress.projector.finish()
    finally:
        for task in (work, stopped):
            task.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)
        health.stop()
        if progress.bus is not None:
            await progress.bus.close()


class _Progress:
    """How far the start has come, for the readiness checks."""

    def __init__(self) -> None:
        self.bus: Bus | None = None
        self.projector: Projector | None = None

    def checks(self) -> dict[str, Check]:
        return {"nats": self._nats, "postgres": self._postgres}

    async def _nats(self) -> None:
        if self.bus is None or not self.bus.connected:
            raise DependencyAway(dependency="nats", reason="not connected")

    async def _postgres(self) -> None:
        if self.projector is None:
            raise DependencyAway(dependency="postgres", reason="not connected yet")
        await self.projector.check()


async def _project(settings: ProjectorSettings, progress: _Progress) -> None:
    instance = ids.new_id()
    progress.bus = bus = await open_log(settings, f"{SERVICE}-{instance}")
    if settings.projector_migrate:
        await retry.until_it_works("Postgres", lambda: _migrate(settings), DatabaseAway, OperationalError)
    park = park_on(bus, f"/dreamforge/{SERVICE}/{instance}")
    progress.projector = projector = Projector(settings, bus, park)
    await together(
        projector.run(),
        react(bus, ADVISORIES.name, "parking", park_what_was_given_up(bus, park)),
        react(bus, PARKED.name, "rereading", read_once_more(bus, projector, park)),
        collect_for_ever(settings, bus, projector),
    )


async def _migrate(settings: ProjectorSettings) -> None:
    await asyncio.to_thread(migrations.upgrade, settings.database_url.get_secret_value())


def main() -> None:
    """`python -m dreamforge.projector`."""
    settings = ProjectorSettings()
    with seldom_collecting():
        lifecycle.main(SERVICE, settings, lambda stop: run(settings, stop))
