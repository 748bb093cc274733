"""The declared tables as DDL for the session's own schema. A test shows that migrations give the same tables."""

from functools import cache
from typing import Any

from sqlalchemy import create_mock_engine
from sqlalchemy.schema import CreateIndex

from dreamforge.contracts.tables import artifacts, metadata
from dreamforge.runtime.storage.postgres import Connection

# Folding looks artifacts up by job; every other index is created faster once the rows exist.
NEEDED_FROM_THE_START = frozenset(
    index.name for index in artifacts.indexes if list(index.columns) == [artifacts.c.job_id]
)


@cache
def _statements() -> tuple[list[bytes], list[bytes]]:
    """(Tables with the indexes that folding needs, the other indexes)."""
    now: list[bytes] = []
    later: list[bytes] = []

    def take(statement: Any, *_: Any, **__: Any) -> None:  # Any: SQLAlchemy's mock executor
        index = statement.element if isinstance(statement, CreateIndex) else None
        is_late = index is not None and index.name not in NEEDED_FROM_THE_START
        (later if is_late else now).append(str(statement.compile(dialect=engine.dialect)).encode())

    engine = create_mock_engine("postgresql+psycopg://", take)
    metadata.create_all(engine, checkfirst=False)
    return now, later


async def create_tables(connection: Connection) -> None:
    """Create all tables in the first schema of the connection's search path."""
    for statement in _statements()[0]:
        await connection.execute(statement)


async def create_indexes(connection: Connection) -> None:
    """Create the indexes that `create_tables` left out, and gather statistics for the query planner."""
    for statement in _statements()[1]:
        await connection.execute(statement)
    for table in metadata.sorted_tables:
        await connection.execute(f"ANALYZE {table.name}".encode())
