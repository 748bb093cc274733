"""Tells the service manager that started this process that it is ready (sd_notify(3))."""

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

SOCKET_VARIABLE = "NOTIFY_SOCKET"


class ServiceManager:
    """The socket of a manager such as systemd; without one every call does nothing.

    The variable is taken out of the environment: children (rclone, Postgres) would say that they are ready, too.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop(SOCKET_VARIABLE, "")

    def ready(self, status: str) -> None:
        """The process does its work from now on; `status` is one line for people."""
        self._send("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """The process has begun to end."""
        self._send("STOPPING=1")

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        abstract = self._address.startswith("@")  # Linux' names without a file
        # A manager that cannot be told says itself that the start took too long; the process is none the worse for it.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            address = "\0" + self._address[1:] if abstract else self._address
            connection.sendto("\n".join(assignments).encode(), address)
