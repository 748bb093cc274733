"""Our sessions are the same whatever a database or a pooler sets; what cannot serve is refused with the reason."""

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, sql

from dreamforge.contracts.errors import DatabaseUnfit
from dreamforge.runtime.storage.postgres import connect, require_fit, require_own_session
from dreamforge.runtime.testing.databases import fresh_name, url_of
from dreamforge.runtime.testing.pooler import pooler

UNUSUAL = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Kolkata",
    "client_encoding": "LATIN1",
    "extra_float_digits": "-5",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "1s",
    "idle_session_timeout": "1s",
}
AT = datetime(2026, 2, 1, 3, 4, 5, 678901, UTC)


def configure(url: str, settings: dict[str, str]) -> None:
    """As an administrator might, for every session of this database."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in settings.items():
            statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
            database = sql.Identifier(connection.info.dbname)
            connection.execute(statement.format(database, sql.Identifier(name), sql.Literal(value)))


async def test_a_session_is_the_same_whatever_the_database_sets(empty_database_url: str) -> None:
    configure(empty_database_url, UNUSUAL)
    async with await connect(empty_database_url, name="test") as connection:
        await connection.execute("CREATE TABLE kept (at timestamptz, prompt text, seconds float8)")
        await connection.execute("INSERT INTO kept VALUES (%s, %s, %s)", (AT, "a 🦊 at dawn", 0.1 + 0.2))
        row = await (await connection.execute("SELECT at, prompt, seconds, to_jsonb(at)::text FROM kept")).fetchone()
        shown = "SELECT current_setting('transaction_isolation'), current_setting('statement_timeout')"
        limits = await (await connection.execute(shown + ", current_setting('idle_session_timeout')")).fetchone()
    assert row == (AT, "a 🦊 at dawn", 0.1 + 0.2, '"2026-02-01T03:04:05.678901+00:00"')
    assert row[0].tzname() == "UTC"
    assert limits == ("read committed", "0", "0")


async def test_the_search_path_of_the_url_is_kept(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA forge_s")
    url = f"{empty_database_url}?options=-csearch_path%3Dforge_s"
    async with await connect(url, name="test", statement_seconds=7) as connection:
        row = await (
            await connection.execute("SELECT current_schema(), current_setting('statement_timeout')")
        ).fetchone()
    assert row == ("forge_s", "7s")


async def test_a_search_path_without_a_schema_is_refused(empty_database_url: str) -> None:
    with pytest.raises(DatabaseUnfit, match=r"search_path \(nowhere\)"):
        await require_fit(f"{empty_database_url}?options=-csearch_path%3Dnowhere")


async def test_a_database_that_cannot_store_every_prompt_is_refused(empty_database_url: str) -> None:
    name = fresh_name("latin")
    create = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute(sql.SQL(create).format(sql.Identifier(name)))
        try:
            with pytest.raises(DatabaseUnfit, match="encoding is LATIN1"):
                await require_fit(url_of(name, empty_database_url))
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def test_a_pooler_that_shares_sessions_is_refused(empty_database_url: str) -> None:
    async with pooler(empty_database_url, by_transaction=True) as url:
        with pytest.raises(DatabaseUnfit, match="pool_mode = session"):
            await require_fit(url)


async def test_a_pooler_that_shares_sessions_is_refused_although_each_got_another_server_process(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect_now = AsyncConnection.connect
    async with (
        pooler(empty_database_url, by_transaction=True) as url,
        await connect(url, name="stranger") as stranger,
        await connect(url, name="ours") as ours,
    ):
        await stranger.execute("BEGIN")
        await ours.execute("SELECT 1")

        async def after_a_return(*positional: Any, **named: Any) -> Any:
            """The server process that the stranger returns now is lent next, and not ours."""
            await stranger.execute("COMMIT")
            return await connect_now(*positional, **named)

        monkeypatch.setattr(AsyncConnection, "connect", after_a_return)
        with pytest.raises(DatabaseUnfit, match="pool_mode = session"):
            await require_own_session(ours, url)


async def test_a_pooler_in_session_mode_serves_and_keeps_the_search_path(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA forge_s")
    async with pooler(empty_database_url, by_transaction=False) as pooled:
        url = f"{pooled}?options=-csearch_path%3Dforge_s"
        async with await connect(url, name="test") as connection:
            pid = await require_own_session(connection, url)
            row = await (await connection.execute("SELECT current_schema(), pg_backend_pid()")).fetchone()
    assert row == ("forge_s", pid)
