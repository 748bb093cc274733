"""Compares the database with the declared tables, and drafts the next version from the differences."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from dreamforge.contracts.tables import metadata
from dreamforge.migrations.schema import config, connection, head, upgrade


def drift(database_url: str) -> list[str]:
    """Each difference between the database and `contracts.tables`, as text; [] when they agree."""
    with connection(database_url) as open_connection:
        context = MigrationContext.configure(
            open_connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return [str(difference) for difference in compare_metadata(context, metadata)]


def draft(database_url: str, message: str) -> str:
    """Write the next version from the difference between the declared tables and the newest version; its number.

    For developers: read it, and add what must happen to existing rows. Works on any empty or migrated database.
    """
    upgrade(database_url)
    number = f"{int(head()) + 1:04}"
    with connection(database_url) as open_connection:
        command.revision(config(open_connection), message, autogenerate=True, rev_id=number)
    return number
