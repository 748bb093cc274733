"""Whether the tables were made from the log that NATS has now: asked before anything is written or removed."""

from dreamforge.contracts.errors import OtherLog
from dreamforge.contracts.log.identity import StreamPlace, TablesPlace, difference
from dreamforge.contracts.log.streams import JOBS
from dreamforge.projector.writing.session import tables_place
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.storage.postgres import Connection


async def log_place(bus: Bus, stream: str, tables: TablesPlace) -> StreamPlace:
    """The stream, with the event that is the newest one of the tables. Errors: DependencyAway, NotOurs."""
    return await stream_place(bus, stream, tables.event.sequence if tables.event else None)


def require_same(stream: str, tables: TablesPlace, log: StreamPlace) -> None:
    """Errors: OtherLog."""
    if reason := difference(tables, log):
        raise OtherLog(what="the read tables", reason=f"{stream}: {reason}")


async def refuse_other_log(bus: Bus, connection: Connection) -> TablesPlace:
    """What the tables have of JOBS, where nothing shows that it is of another log.

    Errors: OtherLog, DependencyAway, NotOurs.
    """
    tables = await tables_place(connection, JOBS.name)
    require_same(JOBS.name, tables, await log_place(bus, JOBS.name, tables))
    return tables


async def require_proved(bus: Bus, connection: Connection) -> str:
    """The identity of JOBS, if the tables are proved to have been made from it: before anything is destroyed.

    Errors: OtherLog, DependencyAway, NotOurs.
    """
    tables = await refuse_other_log(bus, connection)
    if tables.log_id is None:
        raise OtherLog(what="the read tables", reason=f"{JOBS.name}: they do not say which log they were made from")
    return tables.log_id
