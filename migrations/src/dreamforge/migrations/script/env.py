"""Alembic runs this file for every command; the connection comes from our `upgrade`."""

from alembic import context

from dreamforge.contracts.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    compare_server_default=True,
)
context.run_migrations()
