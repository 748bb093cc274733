"""What the database has and the declared tables do not, or the other way round; and the next version, from that."""

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
    """Write the next version from what the declared tables have and the newest version has not; give its number.

    For developers: read it, and say what must happen to the rows. Any empty or migrated database does.
    """
    upgrade(database_url)
    number = f"{int(head()) + 1:04}"
    with connection(database_url) as open_connection:
        command.revision(config(open_connection), message, autogenerate=True, rev_id=number)
    return number
