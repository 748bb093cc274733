"""Whether the read tables were made from the log that NATS has now; without that, no sequence means anything."""

import asyncio
from contextlib import suppress

from loguru import logger
from sqlalchemy import select

from dreamforge.contracts.errors import DependencyAway, NotOurs, OtherLog
from dreamforge.contracts.log.identity import EventPlace, TablesPlace, difference
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.tables import checkpoints, events
from dreamforge.gateway.read.database import Database
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.identity import stream_place

# A log is replaced while a server is down or by hand: the connection is lost, or a person has to settle it.
AGAIN_SECONDS, UNSETTLED_SECONDS = 15.0, 1.0
_NEWEST = select(events.c.sequence, events.c.event_id).order_by(events.c.sequence.desc()).limit(1).subquery()
# One statement, so that checkpoint and event are of the same tables even while a rebuild replaces them.
_PLACE = (
    select(checkpoints.c.sequence, checkpoints.c.log_id, _NEWEST.c.sequence.label("event_at"), _NEWEST.c.event_id)
    .select_from(checkpoints.outerjoin(_NEWEST, _NEWEST.c.sequence <= checkpoints.c.sequence))
    .where(checkpoints.c.stream == JOBS.name)
)


class SameLog:
    """Compares tables and log at the start, after each reconnection, and now and then."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._again = asyncio.Event()
        self._compared = False
        self._other_log: OtherLog | None = None

    def require(self) -> None:
        """Errors: OtherLog once tables and log are known not to belong together."""
        if self._other_log is not None:
            raise self._other_log

    async def check(self) -> None:
        """Readiness. Errors: OtherLog; DependencyAway until they were compared once."""
        self.require()
        if not self._compared:
            raise DependencyAway(dependency="log", reason="the read tables have not been compared with it yet")

    async def run(self, bus: Bus) -> None:
        """Compare until cancelled."""
        bus.on_reconnect.add(self._again.set)
        while True:
            self._again.clear()
            settled = await self.compare(bus)
            with suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS if settled else UNSETTLED_SECONDS):
                    await self._again.wait()

    async def compare(self, bus: Bus) -> bool:
        """Compare now; whether they belong together. What is known stays while one of both is unavailable."""
        try:
            reason = await self._difference(bus)
        except (DependencyAway, NotOurs) as error:
            logger.debug("tables and log could not be compared: {}", error)
            return False
        self._compared = True
        if reason is None:
            self._other_log = None
        elif self._other_log is None or self._other_log.reason != reason:
            self._other_log = OtherLog(what="the read tables", reason=reason)
            logger.error("{}", self._other_log)
        return reason is None

    async def _difference(self, bus: Bus) -> str | None:
        row = await self._database.row(_PLACE)
        if row is None:
            return None
        event = EventPlace(row["event_at"], row["event_id"]) if row["event_at"] is not None else None
        tables = TablesPlace(row["log_id"], row["sequence"], event)
        return difference(tables, await stream_place(bus, JOBS.name, event.sequence if event else None))
