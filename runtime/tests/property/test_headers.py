"""Our reading of headers is the client library's, only faster."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

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
