"""Who runs a command: what the log says of a person who has access to NATS."""

import getpass
import socket

from dreamforge.contracts.log.actor import Actor


def operator() -> Actor:
    """The user of this machine, as user@host."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        name = "unknown"
    return Actor("user", f"{name}@{socket.gethostname()}")
