"""A client of an S3-compatible store, over TCP, or over a Unix socket to the store that a local stack starts."""

import socket
from functools import partial
from pathlib import Path
from typing import Any

import urllib3
from minio import Minio
from urllib3.connection import HTTPConnection

from dreamforge.runtime.storage.unix_sockets import UNIX, connect_unix

# Requests at the same time that keep their connection afterwards.
KEPT_CONNECTIONS = 16


def s3_client(
    endpoint: str, access_key: str, secret_key: str, *, timeout_seconds: float, secure: bool = False, region: str
) -> Minio:
    """A client that makes no request yet and repeats none.

    endpoint: host:port, or `unix:` and the absolute path of a socket. region: given, so that the store is never
    asked for it.
    """
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(timeout_seconds), maxsize=KEPT_CONNECTIONS, retries=False)
    host = endpoint
    if endpoint.startswith(UNIX):
        path = Path(endpoint.removeprefix(UNIX))
        pool.pool_classes_by_scheme = {"http": partial(_UnixConnectionPool, path)}  # type: ignore[dict-item]
        host, secure = "localhost", False
    return Minio(
        endpoint=host, access_key=access_key, secret_key=secret_key, secure=secure, region=region, http_client=pool
    )


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self._path = path

    def _new_conn(self) -> socket.socket:
        timeout = self.timeout if isinstance(self.timeout, int | float) else None
        try:
            return connect_unix(self._path, timeout)
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, f"{self._path}: {error.strerror or error}") from error


class _UnixConnectionPool(urllib3.HTTPConnectionPool):
    def __init__(self, path: Path, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self.ConnectionCls = partial(_UnixConnection, path)  # type: ignore[assignment]
