"""A connection to a NATS server that several installations share: names get their prefix here and nowhere else."""

import json
from typing import Any

from dreamforge.runtime.log.fast_client import FastClient
from dreamforge.runtime.log.names import API, Names


class PrefixedClient(FastClient):
    """Adds the prefix to what is sent and subscribed to, and takes it off what arrives."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self._names = names

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Publish under the subject's name on the server, with the names in a request of the API."""
        if subject.startswith(API) and payload.startswith(b"{"):
            payload = json.dumps(self._names.request_on_server(json.loads(payload))).encode()
        if headers:
            headers = self._names.headers_on_server(headers)
        await super().publish(self._names.on_server(subject), payload, reply, headers)

    async def subscribe(self, subject: str, *arguments: Any, **options: Any) -> Any:  # Any: as the client's
        """Subscribe to the subject's name on the server."""
        return await super().subscribe(self._names.on_server(subject), *arguments, **options)

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> Any:
        if headers:
            headers = self._names.headers_here(headers)
        return super()._build_message(sid, self._names.here(subject.decode()).encode(), reply, data, headers)
