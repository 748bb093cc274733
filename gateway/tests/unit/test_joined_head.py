"""The head of a response is written with the first part of its body, and waits for it no longer than a turn."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

from dreamforge.gateway.http.server_protocol import JOINED_BYTES, JoinedHead

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


@dataclass
class Written:
    """A transport that remembers what is written to it."""

    parts: list[bytes] = field(default_factory=list)
    closed: bool = False

    def write(self, data: bytes) -> None:
        self.parts.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def joined() -> tuple[JoinedHead, Written]:
    """The transport of one response, and what is under it."""
    under = Written()
    return JoinedHead(cast(asyncio.Transport, under)), under


async def test_head_and_body_are_one_write() -> None:
    transport, under = joined()
    transport.write(HEAD)
    transport.write(b"body")
    transport.write(b"more")
    await asyncio.sleep(0)
    assert under.parts == [HEAD + b"body", b"more"]


async def test_a_head_without_a_body_goes_out_in_the_same_turn() -> None:
    transport, under = joined()
    transport.write(HEAD)
    await asyncio.sleep(0)
    transport.write(b"event")
    assert under.parts == [HEAD, b"event"]


async def test_a_large_part_is_not_copied_to_be_joined() -> None:
    transport, under = joined()
    part = bytes(JOINED_BYTES + 1)
    transport.write(HEAD)
    transport.write(part)
    await asyncio.sleep(0)
    assert under.parts == [HEAD, part]
    assert under.parts[1] is part


async def test_closing_loses_no_head() -> None:
    transport, under = joined()
    transport.write(HEAD)
    transport.close()
    await asyncio.sleep(0)
    assert (under.parts, under.closed) == ([HEAD], True)


async def test_nothing_is_written_to_a_connection_that_is_lost_meanwhile() -> None:
    transport, under = joined()
    transport.write(HEAD)
    under.closed = True
    await asyncio.sleep(0)
    assert under.parts == []
