"""The client library's connection, with the parts that every message passes replaced by faster ones.

A property test compares what goes over the wire with what the library sends. Decision 0099 has the numbers.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import ParseResult, unquote

from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from dreamforge.contracts.log.envelope import COPIED_FROM
from dreamforge.runtime.log.headers import header_block, parse_header_lines
from dreamforge.runtime.log.message import NAMED_TWICE

STREAM_HEADER = COPIED_FROM.encode() + b":"


class FastClient(Client):
    """Reads and writes headers faster, hands messages on without a task in between, fails requests when the connection
    is lost, and reads percent-encoded credentials in URLs as every other program does."""

    def __init__(self) -> None:
        super().__init__()
        self._receivers: dict[int, Callable[[Msg], None]] = {}

    async def subscribe_directly(self, subject: str, receive: Callable[[Msg], None]) -> Subscription:
        """A subscription whose messages are handed to a function as they are read, which must not wait.

        The library has a queue and a task for each subscription: two more turns of the event loop a message. Who calls
        this bounds what can arrive.
        """
        subscription = await self.subscribe(subject)
        self._receivers[subscription._id] = receive
        return subscription

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        self._receivers.pop(sid, None)

    async def _init_request_sub(self) -> None:
        self._resp_map = {}
        self._resp_sub_prefix = bytearray(f"{self.new_inbox()}.".encode())
        await self.subscribe_directly(f"{self._resp_sub_prefix.decode()}*", self._answered)

    def _answered(self, message: Msg) -> None:
        assert self._resp_sub_prefix is not None
        answer = self._resp_map.get(message.subject[len(self._resp_sub_prefix) :])
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        receive = self._receivers.get(sid)
        if receive is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        receive(self._build_message(sid, subject, reply, data, await self._process_headers(headers)))

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, str] | None
    ) -> None:
        if headers is None:
            await super()._send_publish(subject, reply, payload, payload_size, headers)
            return
        block = header_block(headers)
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += payload_size
        size = len(block)
        line = f"HPUB {subject} {reply} {size} {size + payload_size}\r\n".encode()
        await self._send_command(b"".join((line, block, payload, b"\r\n")))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def _setup_server_pool(self, connect_url: list[str]) -> None:
        super()._setup_server_pool(connect_url)
        for server in self._server_pool:
            server.uri = DecodedUrl(*server.uri)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # Any: JSON
        await super()._process_info(info, initial_connection)
        self._server_pool = one_each(self._server_pool)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        found = parse_header_lines(raw)
        if raw.count(STREAM_HEADER) > 1:
            found[NAMED_TWICE] = "1"
        return found

    def give_up_requests(self, reason: Exception) -> None:
        """Fail every request that waits for an answer: it was sent on a connection that is lost."""
        for answer in tuple(self._resp_map.values()):
            if not answer.done():
                answer.set_exception(reason)
                answer.exception()  # marked as retrieved: the requester may have given up


def one_each(servers: list[Srv]) -> list[Srv]:
    """Each server once, under the credentials of the given URLs.

    The library adds the servers that a cluster names at each connection: without credentials, and again where it knows
    the same one with some.
    """
    known = next((server.uri.netloc for server in servers if "@" in server.uri.netloc), "")
    credentials = known.rpartition("@")[0]
    kept: dict[tuple[str | None, int | None], Srv] = {}
    for server in servers:
        if credentials and "@" not in server.uri.netloc:
            server.uri = DecodedUrl(*server.uri._replace(netloc=f"{credentials}@{server.uri.netloc}"))
        kept.setdefault((server.uri.hostname, server.uri.port), server)
    return list(kept.values())


class DecodedUrl(ParseResult):
    """A parsed URL whose user and password are percent-decoded.

    >>> DecodedUrl("nats", "forge:p%40ss@127.0.0.1:4222", "", "", "", "").password
    'p@ss'
    """

    @property
    def username(self) -> str | None:
        return _decoded(super().username)

    @property
    def password(self) -> str | None:
        return _decoded(super().password)


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote(text)
