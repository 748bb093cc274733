"""What a connection says is read as the client library reads it, however it is cut into pieces."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from hypothesis import example, given, settings
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from dreamforge.runtime.log import fast_client
from dreamforge.runtime.log.fast_client import FastClient, FastParser

HEADERS = [b"", b"NATS/1.0\r\nce-id: 1\r\n\r\n", b"NATS/1.0 100 Idle\r\n\r\n"]
WORDS = st.sampled_from([b"forge.jobs.J.0.requested", b"_INBOX.x.y", b"MSG", b"$JS.ACK.1"])
PAYLOADS = st.sampled_from([b"", b"{}", b"\r\n", b"MSG a 1 2\r\nhi\r\n", bytes(200)])
OTHERS = (
    b"PING|PONG|+OK|-ERR 'x'|MSG a x 1|MSG a 1 -1|HMSG a 1 9 2\r\nab|MSG  a\t1  r  2\r\nhi|MSG|nonsense|msg a 1 0\r\n|"
)
PIECES = [piece + b"\r\n" for piece in OTHERS.split(b"|")]


@dataclass
class Read:
    """A connection that remembers what was read of it."""

    said: list[object] = field(default_factory=list)
    taken: bool = False

    def hand_on(self, *message: object) -> bool:
        if self.taken:
            self.said.append(message)
        return self.taken

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.said.append((sid, subject, reply, data, headers or b""))

    async def _process_err(self, text: str) -> None:
        self.said.append(text)

    async def _process_ping(self) -> None:
        self.said.append("ping")

    async def _process_pong(self) -> None:
        self.said.append("pong")


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message as the server sends it."""
    subject, reply, payload = draw(WORDS), draw(st.just(b"") | WORDS), draw(PAYLOADS)
    headers = draw(st.sampled_from(HEADERS))
    sizes = b"%d %d" % (len(headers), len(headers + payload)) if headers else b"%d" % len(payload)
    kind = b"HMSG" if headers else b"MSG"
    return b" ".join(filter(None, (kind, subject, b"7", reply, sizes))) + b"\r\n" + headers + payload + b"\r\n"


@settings(max_examples=300)
@given(
    st.lists(messages() | st.sampled_from(PIECES), max_size=6).map(b"".join),
    st.lists(st.integers(0, 900), max_size=6),
    st.booleans(),
    st.sampled_from([64, 64 * 1024]),
)
@example(b"MSG a 1 2\r\nhi\r\n", [1, 2, 3, 11, 12], True, 64)
def test_it_reads_what_the_library_reads(said: bytes, cuts: list[int], taken: bool, waiting_bytes: int) -> None:
    parts = [said[begin:end] for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(said)], strict=True)]
    ours, theirs = Read(taken=taken), Read()
    before, fast_client.WAITING_BYTES = fast_client.WAITING_BYTES, waiting_bytes
    try:
        refused = asyncio.run(_read(FastParser(cast(FastClient, ours)), parts))
    finally:
        fast_client.WAITING_BYTES = before
    assert (refused, ours.said) == (asyncio.run(_read(Parser(cast(Any, theirs)), parts)), theirs.said)


async def _read(parser: Parser, parts: list[bytes]) -> bool:
    """Whether it was refused as no protocol of NATS."""
    try:
        for part in parts:
            await parser.parse(part)
    except ProtocolError:
        return True
    return False
