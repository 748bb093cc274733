"""Frames between supervisor and child: a header and a body, each with its length in front.

Bytes only, no sockets: the same code serves asyncio on one side and a reader thread on the other, and a
property test can feed it any split of any stream.

Layout of a frame, integers big-endian:

    4 bytes  header length H      4 bytes  body length B      H bytes  header (JSON)      B bytes  body
"""

import struct
from dataclasses import dataclass

from dreamforge.contracts.errors import ForgeError

PREFIX = struct.Struct(">II")
#: A header is a task with two prompts; 1 MiB is far above any limit the gateway lets through.
MAX_HEADER_BYTES = 1 << 20
#: A body is one PNG. 4096 x 4096 RGB without any compression is 48 MiB, so 128 MiB never refuses an image.
MAX_BODY_BYTES = 128 << 20


class FrameError(ForgeError):
    """The stream is not a stream of frames, so nothing after this point can be trusted."""

    code = "frame_error"


@dataclass(eq=False)
class FrameTooLarge(FrameError):
    """A length over its bound: either a hostile peer or bytes read out of step."""

    code = "frame_too_large"
    part: str
    size_bytes: int
    limit_bytes: int

    def __str__(self) -> str:
        return f"{self.part} of {self.size_bytes} bytes is over the limit of {self.limit_bytes}"


@dataclass(eq=False)
class FrameTruncated(FrameError):
    """The stream ended in the middle of a frame: the other side died while it was writing."""

    code = "frame_truncated"
    pending_bytes: int

    def __str__(self) -> str:
        return f"the stream ended {self.pending_bytes} bytes into a frame"


@dataclass(frozen=True, slots=True)
class Frame:
    """One message as it travels: `header` is JSON text in UTF-8, `body` is opaque."""

    header: bytes
    body: bytes = b""


def encode_frame(frame: Frame) -> bytes:
    """The bytes to write for one frame.

    Errors: FrameTooLarge, so that the sender learns of it and not the receiver.

    >>> encode_frame(Frame(b"{}", b"x"))
    b'\\x00\\x00\\x00\\x02\\x00\\x00\\x00\\x01{}x'
    """
    _check(len(frame.header), len(frame.body))
    return PREFIX.pack(len(frame.header), len(frame.body)) + frame.header + frame.body


class FrameDecoder:
    """Turns chunks as they arrive into frames; keeps what is not yet complete.

    Holds at most one frame and one chunk, so memory is bounded by the two limits above.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[Frame]:
        """Frames completed by this chunk, in order. Errors: FrameTooLarge."""
        self._buffer += chunk
        frames: list[Frame] = []
        start = 0
        while (end := self._frame_end(start)) is not None:
            header_bytes, _ = PREFIX.unpack_from(self._buffer, start)
            header_start = start + PREFIX.size
            body_start = header_start + header_bytes
            frames.append(Frame(bytes(self._buffer[header_start:body_start]), bytes(self._buffer[body_start:end])))
            start = end
        del self._buffer[:start]
        return frames

    def finish(self) -> None:
        """Say that the stream ended. Errors: FrameTruncated if it ended inside a frame."""
        if self._buffer:
            raise FrameTruncated(len(self._buffer))

    def _frame_end(self, start: int) -> int | None:
        if len(self._buffer) - start < PREFIX.size:
            return None
        header_bytes, body_bytes = PREFIX.unpack_from(self._buffer, start)
        _check(header_bytes, body_bytes)
        end: int = start + PREFIX.size + header_bytes + body_bytes
        return end if len(self._buffer) >= end else None


def _check(header_bytes: int, body_bytes: int) -> None:
    if header_bytes > MAX_HEADER_BYTES:
        raise FrameTooLarge("header", header_bytes, MAX_HEADER_BYTES)
    if body_bytes > MAX_BODY_BYTES:
        raise FrameTooLarge("body", body_bytes, MAX_BODY_BYTES)
