"""Which addresses of a provider are used: https, or http on this machine. Pure."""

from urllib.parse import urlsplit

from dreamforge.contracts.hosts import is_loopback


def required_endpoint(url: object) -> str:
    """The URL, if secrets may be sent there. Errors: ValueError.

    >>> required_endpoint("https://id.example.org/realms/forge")
    'https://id.example.org/realms/forge'
    >>> required_endpoint("http://id.example.org")
    Traceback (most recent call last):
    ValueError: must be an https:// URL (http:// only on this machine)
    """
    parts = urlsplit(url) if isinstance(url, str) else None
    secure = parts is not None and bool(parts.hostname) and not parts.fragment and parts.username is None
    if parts is None or not secure or not (parts.scheme == "https" or _is_local(parts.scheme, parts.hostname or "")):
        raise ValueError("must be an https:// URL (http:// only on this machine)")
    return str(url)


def _is_local(scheme: str, host: str) -> bool:
    return scheme == "http" and is_loopback(host)
