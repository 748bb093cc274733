"""Which servers the tests use, from FORGE_TEST_SERVERS."""

import os
from collections.abc import Mapping
from typing import Literal, cast, get_args

import pytest

VARIABLE = "FORGE_TEST_SERVERS"
Servers = Literal["embedded", "containers", "external"]


def chosen_servers(environment: Mapping[str, str] = os.environ) -> Servers:
    """embedded (ours, from wheels; the default), containers (Docker), external (what FORGE_* settings name).

    Errors: pytest.UsageError on any other value.

    >>> chosen_servers({}), chosen_servers({"FORGE_TEST_SERVERS": "containers"})
    ('embedded', 'containers')
    """
    choice = environment.get(VARIABLE) or "embedded"
    if choice not in get_args(Servers):
        raise pytest.UsageError(f"{VARIABLE} is {choice!r}; it must be one of {', '.join(get_args(Servers))}")
    return cast(Servers, choice)


def external_setting(name: str) -> str:
    """A setting that names an external server. Errors: pytest.UsageError when it is missing."""
    if not (value := os.environ.get(name)):
        raise pytest.UsageError(f"{VARIABLE} is external, so {name} must name the server to test against")
    return value
