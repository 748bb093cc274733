"""The client library's connection, with the parts that every message passes replaced by faster ones.

Property tests compare what is sent and what is read with the library. Decision 0099 has the numbers.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import ParseResult, unquote

from loguru import logger
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

from dreamforge.contracts.log.envelope import COPIED_FROM
from dreamforge.runtime.log.headers import header_block, parse_header_lines
from dreamforge.runtime.log.message import NAMED_TWICE

NO_STATUS = b"NATS/1.0\r\n"
MESSAGES = (b"MSG ", b"HMSG ")
# Of a message that is not whole yet, what is kept as it came. More is for the library, which copies it once.
WAITING_BYTES = 64 * 1024
STREAM_HEADER = COPIED_FROM.encode() + b":"


class FastClient(Client):
    """Reads and writes headers faster, hands messages on without a task in between, fails requests when the connection
    is lost, and reads percent-encoded credentials in URLs as every other program does."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = FastParser(self)
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

    def hand_on(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> bool:
        """Give a message to the function that takes it, if there is one and the message has no status."""
        receive = self._receivers.get(sid)
        if receive is None or not (headers.startswith(NO_STATUS) or not headers):
            return False
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        found = self._parse_header_lines(headers[len(NO_STATUS) :]) if headers else None
        _give(receive, self._build_message(sid, subject, reply, data, found or None))
        return True

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        receive = self._receivers.get(sid)
        if receive is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        elif not self.hand_on(sid, subject, reply, data, headers or b""):
            self.stats["in_msgs"] += 1
            self.stats["in_bytes"] += len(data)
            found = await self._process_headers(headers)
            _give(receive, self._build_message(sid, subject, reply, data, found))

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


def _give(receive: Callable[[Msg], None], message: Msg) -> None:
    """An error of one receiver is none of the connection's: the library would read no more of it."""
    try:
        receive(message)
    except Exception as error:
        logger.opt(exception=error).error("a bug: a message of {} is not taken", message.subject)


class FastParser(Parser):
    """The library's parser, which is left out for messages that came whole."""

    nc: FastClient

    async def parse(self, data: bytes = b"") -> None:
        """Take out whole messages, as long as one is next; what is left is for the library, or waits for more."""
        if self.state != AWAITING_CONTROL_LINE:
            await super().parse(data)
            return
        if self.buf:
            data, self.buf = bytes(self.buf) + data, bytearray()
        at = 0
        while (message := _message(data, at)) is not None and message[-1] <= len(data):
            sid, subject, reply, headers, payload, at = message
            if not self.nc.hand_on(sid, subject, reply, payload, headers):
                await self.nc._process_msg(sid, subject, reply, payload, headers)
        rest = data[at:]
        if message is not None and len(rest) < WAITING_BYTES:
            self.buf.extend(rest)
        else:
            await super().parse(rest)


def _message(data: bytes, at: int) -> tuple[int, bytes, bytes, bytes, bytes, int] | None:
    """The message that begins there, and where it ends, perhaps beyond what has come; None: it is none.

    Subscription, subject, reply, header block, payload. A line is `MSG subject sid [reply] bytes` or
    `HMSG subject sid [reply] header-bytes bytes`.
    """
    if not data.startswith(MESSAGES, at) or (line_end := data.find(b"\r\n", at)) < 0:
        return None
    kind, *words = data[at:line_end].split()
    sizes = 2 if kind == b"HMSG" else 1
    if len(words) - sizes not in (2, 3) or not all(map(bytes.isdigit, (words[1], *words[-sizes:]))):
        return None
    begin, size = line_end + 2, int(words[-1])
    head_end, end = begin + (int(words[-2]) if sizes == 2 else 0), begin + size
    if head_end > end:
        return None
    reply = words[2] if len(words) - sizes == 3 else b""
    return int(words[1]), words[0], reply, data[begin:head_end], data[head_end:end], end + 2


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
