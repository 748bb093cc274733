"""Files of strangers are read without an error that is not ours, whatever is damaged in them."""

import base64
import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.pictures.exif import USER_COMMENT, comment_of, exif_of, read_exif
from dreamforge.contracts.pictures.metadata import TEXT_BYTES_MAX, read_metadata
from dreamforge.contracts.pictures.segments import DamagedPicture

PNG = b"\x89PNG\r\n\x1a\n"
MAGICS = (PNG, b"\xff\xd8\xff\xe1", b"RIFF\0\1\0\0WEBP", b"\0\0\0\x10ftypavif\0\0\0\0")


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@given(st.sampled_from(MAGICS), st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(magic: bytes, rest: bytes) -> None:
    with contextlib.suppress(DamagedPicture):
        read_metadata(magic + rest)


@given(st.binary(max_size=200))
def test_any_exif_is_read(data: bytes) -> None:
    read_exif(b"MM\0*\0\0\0\x08" + data)
    read_exif(b"II*\0\x08\0\0\0" + data)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_a_comment_comes_back_as_it_was_written(text: str) -> None:
    written = read_exif(exif_of(text, None))[USER_COMMENT]
    assert written[8:].decode("utf-16-be") == text
    if text.isascii():
        assert comment_of(written) == text


def test_a_text_that_unpacks_to_gigabytes_is_cut() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    found = read_metadata(PNG + chunk(b"zTXt", b"bomb\0\0" + bomb) + chunk(b"IEND", b""))
    assert len(found.texts["bomb"]) == TEXT_BYTES_MAX


def test_many_large_texts_are_cut_too() -> None:
    packed = zlib.compress(bytes(4 << 20), 9)
    many = b"".join(chunk(b"zTXt", b"%d\0\0" % number + packed) for number in range(10))
    assert sum(map(len, read_metadata(PNG + many + chunk(b"IEND", b"")).texts.values())) <= 5 * TEXT_BYTES_MAX


def test_a_truncated_picture_says_so() -> None:
    with pytest.raises(DamagedPicture, match="truncated"):
        read_metadata(PNG + chunk(b"tEXt", b"a\0b")[:-3])


def test_a_picture_of_another_type_says_nothing() -> None:
    found = read_metadata(base64.b64decode("R0lGODlhAQABAAAAACw="))
    assert (found.content_type, found.recipe, found.parameters, found.is_marked) == (None, None, None, False)
