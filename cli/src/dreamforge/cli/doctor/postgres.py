"""The read database: whether it answers, keeps sessions apart, and has this release's schema."""

import asyncio
from collections.abc import AsyncIterator
from importlib.util import find_spec

from dreamforge.cli.doctor.findings import Finding, fault, note, ok, warning
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import DependencyAway

REMEDY_MIGRATE = "run `dreamforge projection migrate`, or start the projector, which does it"


async def check_postgres(settings: CliSettings) -> AsyncIterator[Finding]:
    """Errors: DatabaseUnfit, DependencyAway."""
    if find_spec("psycopg") is None:
        yield note("postgres", "not asked: this installation has no services")
        return
    import psycopg

    from dreamforge.runtime.storage import postgres

    url = settings.database_url.get_secret_value()
    try:
        async with await postgres.connect(url, name="dreamforge-doctor", statement_seconds=5) as connection:
            await postgres.require_own_session(connection, url)
            yield ok("postgres", f"PostgreSQL {connection.info.server_version // 10_000} answers")
            row = await (await connection.execute("SHOW synchronous_commit")).fetchone()
            yield judge_commit(str(row[0]) if row else "")
    except psycopg.Error as error:
        raise DependencyAway(dependency="postgres", reason=str(error).strip()) from error
    if find_spec("dreamforge.migrations") is not None:
        from dreamforge.migrations import current, head

        yield judge_schema(await asyncio.to_thread(current, url), await asyncio.to_thread(head))


def judge_commit(synchronous_commit: str) -> Finding:
    """Tables are a fold of the log, so a lost transaction is folded again: no fault."""
    if synchronous_commit == "off":
        return note("postgres", "synchronous_commit is off: after a crash the last rows are folded again")
    return ok("postgres", f"synchronous_commit is {synchronous_commit}")


def judge_schema(found: str | None, newest: str) -> Finding:
    """Whether this release can read the tables.

    >>> judge_schema("0007", "0009").remedy == REMEDY_MIGRATE
    True
    """
    if found is None:
        return fault("postgres", "the database has no tables yet", REMEDY_MIGRATE)
    if found == newest:
        return ok("postgres", f"its schema is this release's ({newest})")
    if found < newest:
        return fault("postgres", f"its schema is {found}, and this release needs {newest}", REMEDY_MIGRATE)
    remedy = "install that release here too: older services do not read newer tables"
    return warning("postgres", f"its schema {found} is of a newer release than {newest}", remedy)
