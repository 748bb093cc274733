"""The projector process."""

import asyncio

from psycopg import OperationalError
from sqlalchemy.exc import OperationalError as DatabaseUnavailable

from dreamforge import migrations
from dreamforge.contracts.log.streams import ADVISORIES, PARKED
from dreamforge.projector.consumers import consume, park_undeliverable, retry_parked
from dreamforge.projector.gc_tuning import infrequent_gc
from dreamforge.projector.maintenance.artifact_collector import collect_periodically
from dreamforge.projector.parking import park_on_bus
from dreamforge.projector.projector import Projector
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import ids
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.service import retry, shell
from dreamforge.runtime.service.lifetime import Lifetime


async def start(settings: ProjectorSettings, lifetime: Lifetime) -> None:
    """Connect, migrate, then fold. At the end the batch that is being written is finished first."""
    instance = ids.new_id()
    bus = await open_log(settings, f"{SERVICE.name}-{instance}")
    lifetime.on_close(bus.close)
    lifetime.ready_when("nats", bus.check)
    if settings.projector_migrate:
        await retry.until_it_works("Postgres", lambda: _migrate(settings), DatabaseUnavailable, OperationalError)
    park = park_on_bus(bus, f"/dreamforge/{SERVICE.name}/{instance}")
    projector = Projector(settings, bus, park)
    lifetime.ready_when("postgres", projector.check)
    lifetime.ready_when("log", projector.check_log)
    lifetime.spawn(projector.run(), "project")
    lifetime.spawn(consume(bus, ADVISORIES.name, "parking", park_undeliverable(bus, park)), "parking")
    lifetime.spawn(consume(bus, PARKED.name, "rereading", retry_parked(bus, projector, park)), "rereading")
    lifetime.spawn(collect_periodically(settings, bus, projector), "collect")
    lifetime.on_close(projector.finish)


async def _migrate(settings: ProjectorSettings) -> None:
    await asyncio.to_thread(migrations.upgrade, settings.database_url.get_secret_value())


SERVICE = shell.Service(
    "projector", ProjectorSettings, start, {"nats": "not connected", "postgres": "not connected yet"}
)


def main() -> None:
    """The body of `python -m dreamforge.projector`."""
    with infrequent_gc():
        shell.main(SERVICE)
