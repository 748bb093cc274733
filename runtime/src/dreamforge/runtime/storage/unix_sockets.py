"""Unix sockets, on which the store of a local stack listens."""

import os
import socket
from pathlib import Path

# Before the path of a socket, where an address stands.
UNIX = "unix:"
# `sun_path` of a socket's address has 104 bytes on macOS and 108 on Linux, its end included.
LONGEST_SOCKET_PATH_BYTES = 103


def connect_unix(path: Path, timeout_seconds: float | None) -> socket.socket:
    """A connected socket; a path too long for an address is reached through its folder (Linux). Errors: OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_seconds)
    try:
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH_BYTES:
            connection.connect(str(path))
        else:
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
    except BaseException:
        connection.close()
        raise
    return connection
