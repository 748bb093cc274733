"""The projector process."""

import asyncio

from psycopg import OperationalError
from sqlalchemy.exc import OperationalError as DatabaseUnavailable

from dreamforge import migrations
from dreamforge.contracts.log.permissions import PROJECTOR
from dreamforge.contracts.log.streams import ADVISORIES, PARKED, PARKING, REREADING
from dreamforge.projector.consumers import consume, park_undeliverable, retry_parked
from dreamforge.projector.maintenance.artifact_collector import collect_periodically
from dreamforge.projector.maintenance.eraser import erase_periodically
from dreamforge.projector.parking import park_on_bus
from dreamforge.projector.projector import Projector
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import ids
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.fill import keep_observing
from dreamforge.runtime.log.probe import LogProbe
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.service import retry, shell
from dreamforge.runtime.service.gc_tuning import BATCH_ALLOCATIONS
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.storage.job_archive import archive_reader
from dreamforge.runtime.storage.postgres import require_fit


async def start(settings: ProjectorSettings, lifetime: Lifetime) -> None:
    """Connect, migrate, then fold. At the end the batch that is being written is finished first.

    Errors: BrokerUnfit, DatabaseUnfit.
    """
    instance = ids.new_id()
    bus = await open_log(settings, f"{SERVICE.name}-{instance}", user=PROJECTOR)
    lifetime.on_close(bus.close)
    lifetime.ready_when("nats", LogProbe(bus, SERVICE.name, settings.nats_monitor_urls).check)
    lifetime.spawn(keep_observing(settings), "observe how full the log is")
    url = settings.database_url.get_secret_value()
    await retry.until_it_works("Postgres", lambda: require_fit(url), OperationalError)
    if settings.projector_migrate:
        await retry.until_it_works(
            "Postgres", lambda: asyncio.to_thread(migrations.upgrade, url), DatabaseUnavailable, OperationalError
        )
    source = f"/dreamforge/{SERVICE.name}/{instance}"
    park = park_on_bus(bus, source)
    archive = archive_reader(settings)
    projector = Projector(settings, bus, park, archive)
    lifetime.ready_when("postgres", projector.check)
    lifetime.ready_when("log", projector.check_log)
    lifetime.spawn(projector.run(), "project")
    lifetime.spawn(consume(bus, ADVISORIES.name, PARKING, park_undeliverable(bus, park), park), PARKING)
    lifetime.spawn(consume(bus, PARKED.name, REREADING, retry_parked(bus, projector, park), park), REREADING)
    lifetime.spawn(collect_periodically(settings, bus, projector), "collect")
    store = EventStore(bus, source, archive=archive)
    lifetime.on_close(store.close)
    lifetime.spawn(erase_periodically(settings, bus, projector, store), "erase")
    lifetime.on_close(projector.finish)


SERVICE = shell.Service(
    "projector",
    ProjectorSettings,
    start,
    {"nats": "not connected", "postgres": "not connected yet"},
    allocations=BATCH_ALLOCATIONS,
)


def main() -> None:
    """The body of `python -m dreamforge.projector`."""
    shell.main(SERVICE)
