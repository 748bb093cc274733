"""Our reading and writing of headers is the client library's, only faster."""

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import BadHeaderError

from dreamforge.runtime.log.fast_client import FastClient
from dreamforge.runtime.log.headers import parse_header_lines

PIECES = st.sampled_from(
    [b"ce-id", b"A b", b":", b": ", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\x0b", b"\x1c", b"\xa0", b"\x85", b"\xc3",
     b"\xc3\xa9", b"\xe2\x80\x83", b"\xf0\x9f", b"value", b"x:y", b"\xff", b"\x00"]
)  # fmt: skip


@settings(max_examples=1000)
@given(st.lists(PIECES, max_size=20).map(b"".join) | st.binary(max_size=80))
@example(b"\x1c: 1\r\n")
@example(b": empty\r\nce-id:\xe2\x80\x83v\xc2\xa0\r\n\r\n")
def test_it_reads_what_the_library_reads(raw: bytes) -> None:
    assert parse_header_lines(raw) == Client._parse_header_lines(raw)


NAMES = st.sampled_from(["ce-id", "Nats-Batch-Id", " padded ", "", " ", "traceparent", "x!#$%&'*+-.^_`|~9"])
VALUES = st.lists(st.sampled_from(["a", " ", "\r", "\n", "\r\n", "\t", "é", "\x85", "\u2028", ": ", "ce-id: 2"])).map(
    "".join
)


@settings(max_examples=300)
@given(st.dictionaries(NAMES | st.text(max_size=3), VALUES | st.text(max_size=6), max_size=5), st.binary(max_size=9))
@example({}, b"")
@example({"a b": "1"}, b"")
@example({"a": "1", "b": "2\nc: 3"}, b"\r\n")
def test_it_sends_what_the_library_sends(headers: dict[str, str], payload: bytes) -> None:
    assert asyncio.run(_sent(FastClient(), headers, payload)) == asyncio.run(_sent(Client(), headers, payload))


async def _sent(client: Client, headers: dict[str, str], payload: bytes) -> tuple[list[bytes], int] | str:
    """What waits to be written to the connection, and what is counted; or the name that is refused."""
    try:
        await client._send_publish("forge.x", "inbox", payload, len(payload), headers)
    except BadHeaderError as error:
        return str(error)
    return client._pending, client.stats["out_bytes"]
