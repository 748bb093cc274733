"""Upgrades a database to the newest version, once, however many processes ask at the same time.

Alembic is imported only to change something: it is 0.2 s of the start of each service that looks for a newer version.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, NullPool, create_engine, text

from dreamforge.contracts.database_session import APPLY, wanted
from dreamforge.contracts.errors import ForgeError
from dreamforge.migrations.ownership import require_ours

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(__file__).with_name("script")
# Any constant that is not used otherwise in this database; ASCII of "forgemig".
LOCK_KEY = 0x666F7267656D6967


@dataclass(eq=False)
class UnknownSchemaVersion(ForgeError):
    """The database was migrated by a newer release than this one."""

    code = "unknown_schema_version"
    found: str
    newest_known: str

    def __str__(self) -> str:
        return f"the database is at version {self.found}, and the newest one this release knows is {self.newest_known}"


def head() -> str:
    """The newest version that this release knows.

    >>> head() >= "0001"
    True
    """
    return max(_known())


def current(database_url: str) -> str | None:
    """The version a database is at; None when it was never migrated. Errors: sqlalchemy.exc.OperationalError."""
    with connection(database_url) as open_connection:
        return _version_of(open_connection)


def upgrade(database_url: str) -> None:
    """Bring the database to `head()`, all in one transaction; does nothing when it is there.

    `database_url` is what psycopg takes (postgresql://...). An advisory lock makes simultaneous calls wait for
    the first one.
    Errors: UnknownSchemaVersion, NotOurs for a database with tables of something else,
    sqlalchemy.exc.OperationalError when the database is unavailable.
    """
    with connection(database_url) as open_connection:
        open_connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        found = _version_of(open_connection)
        require_ours(open_connection, found)
        if found == head():
            return
        if found is not None and found not in _known():
            raise UnknownSchemaVersion(found=found, newest_known=head())
        from alembic import command

        command.upgrade(config(open_connection), "head")


def _version_of(open_connection: Connection) -> str | None:
    """What alembic has written down. Errors: sqlalchemy.exc.OperationalError."""
    if open_connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    found: str | None = open_connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _known() -> set[str]:
    """The versions, as their files are named: 0001_baseline.py."""
    return {script.name.partition("_")[0] for script in SCRIPTS.joinpath("versions").glob("[0-9]*.py")}


def config(open_connection: Connection) -> "Config":
    """Alembic's configuration over a connection of ours."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    made.attributes["connection"] = open_connection
    return made


@contextmanager
def connection(database_url: str) -> Iterator[Connection]:
    """One transaction on a connection that psycopg opens, so that its URLs need no translation."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: _session(database_url), poolclass=NullPool)
    with engine.begin() as open_connection:
        yield open_connection


def _session(database_url: str) -> "psycopg.Connection[tuple[object, ...]]":
    """A session with our settings. Errors: psycopg.OperationalError."""
    session = psycopg.connect(database_url, autocommit=True)
    session.execute(APPLY, wanted(str(conninfo_to_dict(database_url).get("options", ""))))
    session.autocommit = False
    return session
