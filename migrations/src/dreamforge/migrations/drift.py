"""What the database has and the declared tables do not, or the other way round."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from dreamforge.contracts.tables import metadata
from dreamforge.migrations.schema import connection


def drift(database_url: str) -> list[str]:
    """Each difference between the database and `contracts.tables`, as text; [] when they agree."""
    with connection(database_url) as open_connection:
        context = MigrationContext.configure(
            open_connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return [str(difference) for difference in compare_metadata(context, metadata)]
