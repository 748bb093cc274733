"""Settings that a service gets after its start, on its standard input.

A local stack starts its services together with the servers that they use: a service imports its modules meanwhile, and
learns then where the servers are.
"""

import json
import os
import sys
from collections.abc import Mapping

# An argument of a service: more of its environment comes on its standard input.
SETTINGS_ON_STDIN = "--settings-on-stdin"


def as_input(settings: Mapping[str, str]) -> bytes:
    """What is written to the standard input of the service, whole; then it is closed."""
    return json.dumps(dict(settings)).encode()


def take_settings() -> None:
    """Where the argument says so, wait for the settings and put them into the environment.

    Standard input is empty afterwards. Exits where it ends without any: who started this process is gone.
    """
    if SETTINGS_ON_STDIN not in sys.argv[1:]:
        return
    with open(0, "rb", closefd=False) as stdin:
        given = stdin.read()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    if not given:
        sys.exit(0)
    os.environ.update(json.loads(given))
