"""Whether the tables of a database are ours: our migrations run in no other one."""

from sqlalchemy import Connection, text

from dreamforge.contracts.errors import NotOurs
from dreamforge.contracts.tables import checkpoints, events

# Tables of extensions (PostGIS, for one) are not of an application.
_TABLES = """SELECT c.relname FROM pg_class AS c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1"""
SHOWN_NAMES = 5
# In every version of ours; no other application is likely to have both.
OURS = {checkpoints.name, events.name}


def require_ours(connection: Connection, version: str | None) -> None:
    """That the schema is empty, or was migrated by us. `version` is what alembic's table says; None: there is none.

    Errors: NotOurs.
    """
    names = [str(name) for name in connection.scalars(text(_TABLES))]
    others = [name for name in names if name != "alembic_version"]
    if (version is None and others) or (version is not None and not set(names) >= OURS):
        shown = ", ".join(others[:SHOWN_NAMES]) or f"version {version} of another application"
        raise NotOurs(
            what="the database",
            found=f"it holds {shown}",
            remedy="name a database of its own in FORGE_DATABASE_URL, or a schema of its own there"
            " (?options=-csearch_path%3Ddreamforge)",
        )
