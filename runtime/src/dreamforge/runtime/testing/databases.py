"""A database of its own for every test: cloned from one migrated template, which is far faster than migrating."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

_numbers = itertools.count(1)


def url_of(database: str, server_url: str) -> str:
    """The same server and role, another database.

    >>> url_of("b", "postgresql://role:word@127.0.0.1:5432/a?sslmode=disable")
    'postgresql://role:word@127.0.0.1:5432/b?sslmode=disable'
    """
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{database}"))


def fresh_name(purpose: str) -> str:
    """A unique name on this server: several workers, sessions and machines may share an external one."""
    return f"forge_{purpose}_{os.getpid()}_{os.urandom(3).hex()}_{next(_numbers)}"


@contextmanager
def database(server_url: str, template: str | None = None) -> Iterator[str]:
    """The url of a new database, empty or a copy of `template`; dropped at the end, even with open connections."""
    name = fresh_name("test" if template else "empty")
    source = sql.SQL("TEMPLATE {}").format(sql.Identifier(template or "template0"))
    _execute(server_url, sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), source))
    try:
        yield url_of(name, server_url)
    finally:
        _drop(server_url, name)


@contextmanager
def template_database(server_url: str) -> Iterator[str]:
    """The name of a database with our schema, to be copied; no connection to it may stay open."""
    with database(server_url) as url:
        if (upgrade := _migrations_upgrade()) is not None:
            upgrade(url)
        yield urlsplit(url).path[1:]


def _migrations_upgrade() -> Callable[[str], None] | None:
    """`dreamforge.migrations.upgrade(database_url)`; None where that distribution is not installed."""
    if find_spec("dreamforge.migrations") is None:
        return None
    upgrade: Callable[[str], None] = import_module("dreamforge.migrations").upgrade
    return upgrade


def _drop(server_url: str, name: str) -> None:
    """Drop a database with its connections.

    Autovacuum may be at work in it, as the superuser, whose processes our role may not end: that needs the plain
    statement, which ends autovacuum by itself but waits in vain for connections.
    """
    plain = sql.SQL("DROP DATABASE {}").format(sql.Identifier(name))
    try:
        _execute(server_url, sql.SQL("{} WITH (FORCE)").format(plain))
    except psycopg.errors.InsufficientPrivilege:
        try:
            _execute(server_url, plain)
        except psycopg.errors.ObjectInUse:
            _execute(server_url, sql.SQL("{} WITH (FORCE)").format(plain))


def _execute(server_url: str, statement: sql.Composed) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(statement)
