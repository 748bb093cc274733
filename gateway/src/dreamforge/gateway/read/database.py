"""Reads the read tables: one pool, bounded waits, every failure of Postgres as DependencyAway."""

from collections.abc import Sequence
from functools import partial

import psycopg
from sqlalchemy import RowMapping, Select, exc, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dreamforge.contracts.errors import DatabaseUnfit, DependencyAway
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.tables import checkpoints
from dreamforge.runtime.storage.postgres import connect

CONNECT_SECONDS = 2  # whole seconds, and 2 is the least libpq takes
UNAVAILABLE = (psycopg.OperationalError, psycopg.InterfaceError)
NOT_MIGRATED = (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidCatalogName)


class Database:
    """Reads only, each a single statement, so a reply is one consistent state of the tables."""

    def __init__(self, url: str, *, pool_size: int, timeout_seconds: float) -> None:
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=partial(
                connect,
                url,
                name="dreamforge-gateway",
                statement_seconds=timeout_seconds,
                connect_seconds=CONNECT_SECONDS,
            ),
            isolation_level="AUTOCOMMIT",  # a single statement needs no transaction around it
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout_seconds,
            pool_pre_ping=True,
        )

    async def rows(self, statement: Select[*tuple[object, ...]]) -> Sequence[RowMapping]:
        """All rows of a statement.

        Errors: DependencyAway when Postgres is unavailable, too slow, or not migrated; anything else is a bug of ours.
        """
        try:
            async with self._engine.connect() as connection:
                return (await connection.execute(statement)).mappings().all()
        except exc.DBAPIError as error:
            if error.connection_invalidated or isinstance(error.orig, UNAVAILABLE + NOT_MIGRATED):
                raise _unavailable(error.orig or error) from error
            raise
        except (exc.TimeoutError, DatabaseUnfit, *UNAVAILABLE, OSError) as error:
            raise _unavailable(error) from error

    async def row(self, statement: Select[*tuple[object, ...]]) -> RowMapping | None:
        """The first row or None. Errors: as `rows`."""
        found = await self.rows(statement)
        return found[0] if found else None

    async def checkpoint(self) -> int:
        """The sequence of JOBS that the tables contain. Errors: DependencyAway, also where there are no tables."""
        row = await self.row(select(checkpoints.c.sequence).where(checkpoints.c.stream == JOBS.name))
        return int(row["sequence"]) if row else 0

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()


def _unavailable(error: BaseException) -> DependencyAway:
    if isinstance(error, NOT_MIGRATED):
        return DependencyAway(dependency="postgres", reason="the read tables are missing: migrate the database first")
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return DependencyAway(dependency="postgres", reason=reason)
