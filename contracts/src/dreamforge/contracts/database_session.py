"""What each Postgres session of ours needs, whatever database, role and environment set. Values, no I/O."""

import re
from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    "client_encoding": "UTF8",  # prompts are any text
    "DateStyle": "ISO",  # psycopg reads no other
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",  # replies say Z
    "standard_conforming_strings": "on",
    "extra_float_digits": "1",  # 0 rounds
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    # No session of ours may be ended by a limit that was meant for people; those that we want are set by their users.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
# Settings that this version of Postgres does not have are left out by the join.
APPLY = (
    "SELECT set_config(name, value, false)"
    " FROM pg_settings JOIN unnest(%s::text[], %s::text[]) AS wanted (name, value) USING (name)"
)


def wanted(options: str, **more: str) -> tuple[list[str], list[str]]:
    """The parameters of `APPLY`: names and values. `options`: of the connection's URL; its search_path is set again,
    because a pooler may have dropped it.

    >>> names, values = wanted("-csearch_path=forge_s", statement_timeout="5000")
    >>> dict(zip(names, values))["search_path"], dict(zip(names, values))["statement_timeout"]
    ('forge_s', '5000')
    """
    path = option(options, "search_path")
    settings = {**SETTINGS, **({} if path is None else {"search_path": path}), **more}
    return list(settings), list(settings.values())


def option(options: str, name: str) -> str | None:
    """The value of a setting in libpq's `options` (`-c name=value`, `-cname=value`, `--name=value`); the last one wins.

    >>> option(r"-c work_mem=4MB --search-path=a,\\ b", "search_path")
    'a, b'
    """
    given = re.findall(r"(?:-c\s*|--)((?:\\.|[^\s=\\])+)=((?:\\.|[^\s\\])*)", options)
    values = [value for key, value in given if key.replace("-", "_").lower() == name]
    return re.sub(r"\\(.)", r"\1", values[-1]) if values else None
