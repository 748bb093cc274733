"""The laws of frames: any split of any stream gives the same frames; what is not a stream of frames says so."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.gpu_runner.protocol.frames import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    Frame,
    FrameDecoder,
    FrameTooLarge,
    FrameTruncated,
    encode_frame,
)

frames = st.builds(Frame, st.binary(max_size=200), st.binary(max_size=200))


@given(st.lists(frames, max_size=6), st.data())
def test_any_split_gives_the_same_frames(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encode_frame, sent))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8).map(sorted))
    decoder, received = FrameDecoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.feed(stream[start:end])
    decoder.finish()
    assert received == sent


@given(frames, st.data())
def test_a_stream_that_ends_inside_a_frame_is_truncated(frame: Frame, data: st.DataObject) -> None:
    stream = encode_frame(frame)
    decoder = FrameDecoder()
    assert decoder.feed(stream[: data.draw(st.integers(1, len(stream) - 1))]) == []
    with pytest.raises(FrameTruncated):
        decoder.finish()


@pytest.mark.parametrize(
    ("header_bytes", "body_bytes", "part"), [(MAX_HEADER_BYTES + 1, 0, "header"), (0, MAX_BODY_BYTES + 1, "body")]
)
def test_a_length_over_its_bound_is_refused_before_its_bytes_come(
    header_bytes: int, body_bytes: int, part: str
) -> None:
    with pytest.raises(FrameTooLarge) as refused:
        FrameDecoder().feed(struct.pack(">II", header_bytes, body_bytes))
    assert refused.value.part == part


def test_the_sender_hears_of_a_frame_that_is_too_large() -> None:
    with pytest.raises(FrameTooLarge):
        encode_frame(Frame(bytes(MAX_HEADER_BYTES + 1)))
