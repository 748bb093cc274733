"""What is asked of an embedded Postgres: whether it answers, whether it writes; and its role and database are made."""

import psycopg
from psycopg import AsyncConnection, sql

ANSWER_SECONDS = 2


async def ask(url: str) -> None:
    """A question that it answers. Errors: those of psycopg."""
    async with await AsyncConnection.connect(url, connect_timeout=ANSWER_SECONDS) as connection:
        await connection.execute("SELECT 1")


async def lets_us_in(url: str) -> bool:
    """Whether it is there, and has our role and database."""
    try:
        await ask(url)
    except psycopg.OperationalError:
        return False
    return True


async def write(url: str, connect_seconds: int) -> None:
    """A transaction that is written to the disk: a new transaction id, and a notification without a listener."""
    async with await AsyncConnection.connect(url, connect_timeout=connect_seconds) as connection:
        await connection.execute("SELECT pg_current_xact_id(), pg_notify('forge_probe', '')")


async def ensure_role_and_database(admin_url: str, role: str, password: str, database: str) -> None:
    """Make the role, and the database that it owns, where they are not there."""
    async with await AsyncConnection.connect(admin_url, autocommit=True) as admin:
        owner, named = sql.Identifier(role), sql.Identifier(database)
        if not await _exists(admin, "SELECT 1 FROM pg_roles WHERE rolname = %s", role):
            make_role = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
            await admin.execute(make_role.format(owner, sql.Literal(password)))
        if not await _exists(admin, "SELECT 1 FROM pg_database WHERE datname = %s", database):
            await admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(named, owner))


async def _exists(connection: "AsyncConnection[tuple[object, ...]]", query: str, name: str) -> bool:
    return await (await connection.execute(query.encode(), (name,))).fetchone() is not None
