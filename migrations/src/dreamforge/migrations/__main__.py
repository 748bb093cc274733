"""`python -m dreamforge.migrations [upgrade|current|check|draft] [DATABASE_URL]`.

The URL defaults to FORGE_DATABASE_URL. `draft --message "why"` writes the next version, for developers.
"""

import argparse
import os
import sys

from sqlalchemy.exc import OperationalError

from dreamforge.contracts.errors import ForgeError
from dreamforge.migrations.drift import draft, drift
from dreamforge.migrations.schema import current, head, upgrade

# The default of every service's settings (dreamforge.runtime.service.settings).
DEFAULT_URL = "postgresql://forge@127.0.0.1:5432/forge"


def main(arguments: list[str] | None = None) -> int:
    """0 when the database has (now) the schema of this release."""
    parser = argparse.ArgumentParser(prog="python -m dreamforge.migrations", description="The read database's schema.")
    parser.add_argument("action", nargs="?", choices=("upgrade", "current", "check", "draft"), default="upgrade")
    parser.add_argument("database_url", nargs="?", default=os.environ.get("FORGE_DATABASE_URL") or DEFAULT_URL)
    parser.add_argument("--message", default="", help="of a draft: why the tables change")
    given = parser.parse_args(arguments)
    try:
        return _draft(given) if given.action == "draft" else _do(given.action, given.database_url)
    except (ForgeError, OperationalError) as error:
        print(f"cannot {given.action}: {error}", file=sys.stderr)  # noqa: T201 output of a command
        return 1


def _draft(given: argparse.Namespace) -> int:
    number = draft(given.database_url, given.message)
    print(f"version {number} is drafted: read it, and add what must happen to existing rows")  # noqa: T201 output of a command
    return 0


def _do(action: str, database_url: str) -> int:
    if action == "upgrade":
        upgrade(database_url)
    found = current(database_url)
    problems = [f"at version {found}, not {head()}"] if action != "current" and found != head() else []
    if action == "check" and not problems:
        problems = drift(database_url)
    print("\n".join(problems) or f"at version {found}")  # noqa: T201 output of a command
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
