"""The bytes of an archive object: one gzip member of JSON lines for each job, one after the other. Pure.

Members are independent: one job is read by its range, and `zcat` reads all of them. A line is one message as the log
had it: sequence, subject, headers, and its bytes as text, or in base64 where they are none. The member of an erased job
is replaced by an empty one of the same length, so that the places of the others stay true.
"""

import gzip
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dreamforge.contracts.jobs.archival import ArchivePlace
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.storage.objects import sha256_of

# RFC 1952: a header with an extra field, whose length two bytes state; an empty deflate block; CRC and length, both 0.
EMPTY_HEADER = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff"
EMPTY_BODY = b"\x03\x00" + bytes(8)
EMPTY_BYTES = len(EMPTY_HEADER) + 2 + len(EMPTY_BODY)
EXTRA_MAX_BYTES = 0xFFFF
GZIP_WINDOW = 31
# Bounds what is copied again for each member: the end of one is known only once it was read past.
READ_BYTES = 4_096
LEVEL = 6


@dataclass(frozen=True, slots=True)
class Member:
    """One job's part of an object. No messages: it was erased, or it only fills a gap."""

    offset_bytes: int
    data: bytes
    messages: tuple[LogMessage, ...]

    def place(self, object_key: str) -> ArchivePlace:
        """The place of the job whose messages these are; it has some."""
        return ArchivePlace(
            object_key=object_key,
            offset_bytes=self.offset_bytes,
            size_bytes=len(self.data),
            sha256=sha256_of(self.data),
            events=len(self.messages),
            first_sequence=self.messages[0].sequence,
            last_sequence=self.messages[-1].sequence,
        )


def packed(messages: Sequence[LogMessage]) -> bytes:
    """The member of one job. The same messages always give the same bytes."""
    lines = b"".join(json.dumps(_line(message), ensure_ascii=False).encode() + b"\n" for message in messages)
    return gzip.compress(lines, LEVEL, mtime=0)


def unpacked(member: bytes) -> tuple[LogMessage, ...]:
    """The messages of one job; () of one that was erased. Errors: ValueError for anything that is no member."""
    try:
        return tuple(_message(line) for line in gzip.decompress(member).splitlines() if line)
    except (OSError, EOFError, zlib.error, KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def members(data: bytes) -> Iterator[Member]:
    """The members of an object, in order. Errors: ValueError where the bytes are none."""
    offset = 0
    while offset < len(data):
        end = _end_of_member(data, offset)
        yield Member(offset, data[offset:end], unpacked(data[offset:end]))
        offset = end


def filler(size_bytes: int) -> bytes:
    """Empty members of exactly this length, of at least EMPTY_BYTES: what is left of an erased job.

    >>> len(filler(22)), len(filler(65_558)), gzip.decompress(filler(70_000))
    (22, 65558, b'')
    """
    made = b""
    while (left := size_bytes - len(made)) > 0:
        extra = min(left - EMPTY_BYTES, EXTRA_MAX_BYTES)
        if 0 < left - EMPTY_BYTES - extra < EMPTY_BYTES:  # the rest must hold another one
            extra -= EMPTY_BYTES
        made += EMPTY_HEADER + extra.to_bytes(2, "little") + bytes(extra) + EMPTY_BODY
    return made


def without(data: bytes, offset_bytes: int, size_bytes: int) -> bytes:
    """An object with one of its members erased."""
    return data[:offset_bytes] + filler(size_bytes) + data[offset_bytes + size_bytes :]


def _end_of_member(data: bytes, offset: int) -> int:
    """Where the gzip member that begins at `offset` ends. Errors: ValueError."""
    reader, read = zlib.decompressobj(GZIP_WINDOW), offset
    while not reader.eof:
        if read >= len(data):
            raise ValueError(f"the gzip member at byte {offset} is cut off")
        try:
            reader.decompress(data[read : read + READ_BYTES])
        except zlib.error as error:
            raise ValueError(f"no gzip member at byte {offset}: {error}") from None
        read = min(read + READ_BYTES, len(data))
    return read - len(reader.unused_data)


def _line(message: LogMessage) -> dict[str, object]:
    line: dict[str, object] = {
        "sequence": message.sequence,
        "subject": message.subject,
        "headers": message.headers,
    }
    try:
        return line | {"data": message.data.decode()}
    except UnicodeDecodeError:
        return line | {"data_base64": b64encode(message.data).decode()}


def _message(line: bytes) -> LogMessage:
    found = json.loads(line)
    data = b64decode(found["data_base64"]) if "data_base64" in found else found["data"].encode()
    return LogMessage(found["subject"], found["headers"], data, int(found["sequence"]))
