"""The read database's versions, importable so that every install can migrate.

`upgrade` is safe to call from every service at every start: all but the first call find nothing to do.
"""

from dreamforge.migrations.schema import current, head, upgrade

__all__ = ["current", "head", "upgrade"]
