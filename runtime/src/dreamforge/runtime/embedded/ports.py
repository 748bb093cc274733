"""TCP ports on the loopback address."""

import errno
import os
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
OUTGOING_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_FIRST_OUTGOING = 32_768  # Linux; macOS and Windows begin at 49,152
CANDIDATES = 12_000  # we choose among this many ports below the outgoing ones


def free_port() -> int:
    """A port that is free now. Another process may take it first, so the caller must be ready to retry.

    Not the kernel's choice (bind to 0), which lies in the range of outgoing connections: there, while a server
    is down for a restart, a client's connection may take its port, even a connection to that very port, which
    TCP then completes with itself.
    """
    first = first_outgoing_port() - CANDIDATES
    for _ in range(100 if first >= 1024 else 0):
        port = first + int.from_bytes(os.urandom(4), "big") % CANDIDATES
        if not is_taken(port):
            return port
    with socket.socket() as probe:  # an unusual configuration of the machine
        probe.bind((LOOPBACK, 0))
        chosen: int = probe.getsockname()[1]
        return chosen


def first_outgoing_port() -> int:
    """Where the range begins that the kernel takes the ports of outgoing connections from."""
    try:
        return int(OUTGOING_RANGE.read_text().split()[0])
    except OSError:
        return DEFAULT_FIRST_OUTGOING


def is_taken(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could not bind this port now; a port in TIME_WAIT counts as free, as servers see it.

    False for a host that this machine does not have: that is no fault of the port.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        return False
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
        return False
