"""Hosts as they stand in URLs: IPv6 in brackets, and which are this machine. Pure."""

import ipaddress


def bare(host: str) -> str:
    """A host without the brackets of an IPv6 address.

    >>> bare("[::1]"), bare("localhost")
    ('::1', 'localhost')
    """
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or number alone, so that no proxy can reach it.

    >>> is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("localhost"), is_loopback("10.0.0.1")
    (True, True, True, False)
    """
    host = bare(host).lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
