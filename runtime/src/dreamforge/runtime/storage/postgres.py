"""Connections to Postgres: each session sets what it needs; a server that cannot give it is refused."""

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dreamforge.contracts.database_session import APPLY, wanted
from dreamforge.contracts.errors import DatabaseUnfit

Connection = AsyncConnection[tuple[object, ...]]
# libpq's: a server that no longer answers is noticed in about five seconds, also where the connection is not closed.
TIMEOUTS = {"connect_timeout": 5, "keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 3}
ENCODING = "UTF8"
# Other sessions take and return server connections of a pooler meanwhile, so one look may see what session mode shows.
SHARING_TRIES = 20
FOUND = "SELECT current_schema(), current_setting('search_path'), current_setting('server_encoding')"


def with_timeouts(database_url: str, **more: int) -> str:
    """The URL with our time-outs in seconds, where it does not set its own; `more` replaces some of ours.

    >>> "connect_timeout=5" in with_timeouts("postgresql://forge@db/forge")
    True
    """
    given = conninfo_to_dict(database_url)
    ours = TIMEOUTS | more
    return make_conninfo(database_url, **{name: value for name, value in ours.items() if name not in given})


async def connect(
    database_url: str, *, name: str, statement_seconds: float = 0, connect_seconds: int = TIMEOUTS["connect_timeout"]
) -> Connection:
    """A session with the settings of `contracts.database_session`; autocommit, because most are single statements.

    The settings are statements and no startup parameters, because poolers refuse those. `name` is what
    pg_stat_activity shows; `statement_seconds` bounds each statement, 0 does not.
    Errors: DatabaseUnfit, psycopg.Error when Postgres is unavailable.
    """
    connection = await AsyncConnection.connect(
        with_timeouts(database_url, connect_timeout=connect_seconds), autocommit=True, application_name=name
    )
    try:
        await _set_up(connection, database_url, statement_seconds)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _set_up(connection: Connection, database_url: str, statement_seconds: float) -> None:
    options = str(conninfo_to_dict(database_url).get("options", ""))
    await connection.execute(APPLY, wanted(options, statement_timeout=f"{round(statement_seconds * 1000)}ms"))
    row = await (await connection.execute(FOUND)).fetchone()
    assert row is not None
    schema, path, encoding = row
    if schema is None:
        raise DatabaseUnfit(
            reason=f"none of the schemas in its search_path ({path}) exists for this role: create one, or name another"
            " in FORGE_DATABASE_URL (?options=-csearch_path%3DSCHEMA)"
        )
    if encoding != ENCODING:
        raise DatabaseUnfit(
            reason=f"its encoding is {encoding}, which cannot store every prompt: create it with ENCODING '{ENCODING}'"
        )


async def require_fit(database_url: str) -> None:
    """Connect once, to see that our sessions work there. Errors: DatabaseUnfit, psycopg.Error when unavailable."""
    async with await connect(database_url, name="dreamforge-start") as connection:
        await require_own_session(connection, database_url)


async def backend_pid(connection: Connection) -> int:
    """The server process behind this session now. Errors: psycopg.Error."""
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    return int(str(row[0]))


async def require_own_session(connection: Connection, database_url: str) -> int:
    """Refuse a pooler that gives our session to others between transactions; the pid of the session's server process.

    LISTEN, advisory locks, temporary tables and settings live in a session: behind such a pooler they get lost, or
    reach a stranger. A pooler is recognized by the process id, which it makes up; that it shares, by two sessions in
    one server process, or one session in two.
    Errors: DatabaseUnfit, psycopg.Error.
    """
    mine = await backend_pid(connection)
    if mine == connection.info.backend_pid:
        return mine
    try:
        async with await AsyncConnection.connect(with_timeouts(database_url), autocommit=True) as other:
            for attempt in range(SHARING_TRIES):
                # A pooler lends what was returned last, or first: the two must not keep to one server process each.
                if attempt % 2 and await backend_pid(connection) != mine:
                    raise shared_session()
                async with other.transaction():
                    theirs = await backend_pid(other)
                    again = await backend_pid(connection)
                if theirs == mine or again != mine:
                    raise shared_session()
    except psycopg.errors.ProtocolViolation as error:  # a pooler that shares even between statements refuses BEGIN
        raise shared_session() from error
    return mine


def shared_session() -> DatabaseUnfit:
    """The refusal of a pooler that is not in session mode."""
    return DatabaseUnfit(
        reason="it is a pooler in transaction mode, which loses LISTEN, locks and settings between statements:"
        " point FORGE_DATABASE_URL at Postgres itself, or set the pooler to session mode (pool_mode = session)"
    )
