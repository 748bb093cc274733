"""The read database's versions, importable so that every install can migrate.

`upgrade` is safe to call from every service at every start: whoever comes second finds the work done.
"""

from dreamforge.migrations.schema import current, head, upgrade

__all__ = ["current", "head", "upgrade"]
