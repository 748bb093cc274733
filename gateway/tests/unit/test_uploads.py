"""An upload is a whole image within bounds by its content: or it is refused before it costs anything."""

import io
import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dreamforge.contracts.errors import InvalidInput
from dreamforge.contracts.request.errors import OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.http.errors import BadPicture, UnsupportedMedia
from dreamforge.gateway.submit.image_headers import FORMATS, read_header, require_image_type
from dreamforge.gateway.submit.inspect_image import inspect

LIMITS = Limits(upload_pixels=64 * 64)
PICTURE = Image.effect_mandelbrot((24, 16), (-2, -1.5, 1, 1.5), 20).convert("RGB")


def encoded(kind: str, picture: Image.Image = PICTURE, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, FORMATS[kind], **options)  # type: ignore[arg-type]  # of every encoder
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width_px: int, height_px: int, pixels: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width_px, height_px, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


WHOLE = [
    ("image/png", encoded("image/png")),
    ("image/png", encoded("image/png", PICTURE.convert("RGBA"))),
    ("image/png", encoded("image/png", PICTURE.convert("P"))),
    ("image/jpeg", encoded("image/jpeg")),
    ("image/jpeg", encoded("image/jpeg", progressive=True)),
    ("image/jpeg", encoded("image/jpeg", PICTURE.convert("L"))),
    ("image/webp", encoded("image/webp")),
    ("image/webp", encoded("image/webp", lossless=True)),
    ("image/webp", encoded("image/webp", PICTURE.convert("RGBA"), exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00")),
]


@pytest.mark.parametrize(("kind", "data"), WHOLE)
def test_whole_pictures_are_taken_with_their_size(kind: str, data: bytes) -> None:
    header = inspect(data, LIMITS)
    assert (header.content_type, header.width_px, header.height_px) == (kind, 24, 16)


@pytest.mark.parametrize(("kind", "data"), WHOLE)
def test_no_part_of_a_picture_is_a_picture_and_what_follows_it_does_not_count(kind: str, data: bytes) -> None:
    for cut in (*range(0, len(data), max(1, len(data) // 50)), len(data) - 1):
        with pytest.raises(BadPicture):
            inspect(data[:cut], LIMITS)
    film = struct.pack(">I", 24) + b"ftypmp42" + b"\xff\xda" * 1000
    for more in (b"\x00", b"\xff\xd9", b"GIF89a", data, film):
        header = inspect(data + more, LIMITS)
        assert (header.content_type, header.end) == (kind, len(data))


def test_the_first_image_of_a_file_with_several_is_taken() -> None:
    turned = PICTURE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    moving = [encoded(kind, save_all=True, append_images=[turned]) for kind in ("image/png", "image/webp")]
    gain_map = io.BytesIO()
    PICTURE.save(gain_map, "MPO", save_all=True, append_images=[PICTURE.resize((12, 8))])
    for data in (*moving, gain_map.getvalue()):
        header = inspect(data, LIMITS)
        assert (header.width_px, header.height_px) == (24, 16)


def test_the_size_is_that_of_the_image_as_it_is_shown() -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        sides = (16, 24) if orientation >= 5 else (24, 16)
        for kind in FORMATS:
            header = inspect(encoded(kind, exif=exif), LIMITS)
            assert (header.width_px, header.height_px) == sides
    assert inspect(encoded("image/jpeg", exif=b"Exif\0\0nonsense"), LIMITS).width_px == 24


def test_what_is_no_picture_by_its_content_is_refused() -> None:
    for other in (b"GIF89a" + bytes(20), b"<svg/>", b"%PDF-1.7", b"RIFF\x04\x00\x00\x00WAVE"):
        with pytest.raises(BadPicture, match="no PNG, JPEG, WebP or AVIF"):
            inspect(other, LIMITS)
    with pytest.raises(BadPicture, match="empty"):
        inspect(b"", LIMITS)


def test_a_bomb_is_refused_before_a_decoder_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the decoder was asked")

    monkeypatch.setattr(Image, "open", never)
    flat = Image.new("RGB", (65, 64))
    bombs = [png(2**31 - 1, 2**31 - 1, bytes(2**16)), *(encoded(kind, flat) for kind in FORMATS)]
    for data in bombs:
        with pytest.raises(OutOfBounds) as caught:
            inspect(data, LIMITS)
        assert (caught.value.field, caught.value.maximum) == ("pixels", 64 * 64)


def test_slivers_scans_and_lies_are_refused() -> None:
    with pytest.raises(OutOfBounds, match="height_px is 1"):
        inspect(encoded("image/png", Image.new("L", (64, 1))), LIMITS)
    with pytest.raises(BadPicture, match="cannot be decoded"):
        inspect(png(16, 16, bytes(20)), LIMITS)  # says 16 rows and has one
    progressive = encoded("image/jpeg", progressive=True)
    scan = progressive[progressive.index(b"\xff\xda") : -2]
    with pytest.raises(BadPicture, match="scans"):
        inspect(progressive[:-2] + scan * 100 + progressive[-2:], LIMITS)


@pytest.mark.parametrize(
    ("repeated", "reason"),
    [
        (b"\xff\xda\x00\x02" + b"\xff" * 2**22, "truncated"),
        (b"\xff\xda\x00\x02" + b"\xff\x00" * 2**21, "truncated"),
        (b"\xff" * 2**22, "more than 100000 markers"),
        (b"\xff\xe0\x00\x02" * 2**20, "more than 100000 markers"),
    ],
    ids=["fill-after-scan", "coded-data", "fill", "segments"],
)
def test_a_hostile_header_is_refused_in_linear_time(repeated: bytes, reason: str) -> None:
    started = time.process_time()
    with pytest.raises(BadPicture, match=reason):
        read_header(b"\xff\xd8" + repeated)
    assert time.process_time() - started < 2  # 0.2 s at most; a quadratic search takes hours


@given(st.sampled_from(WHOLE), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8))
def test_any_bytes_are_a_picture_or_a_refusal(whole: tuple[str, bytes], changes: list[tuple[int, int]]) -> None:
    data = bytearray(whole[1])
    for place, value in changes:
        data[place % len(data)] = value
    try:
        inspect(bytes(data), LIMITS)
    except InvalidInput:
        return
    assert read_header(bytes(data)).end <= len(data)


MAGICS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBP", b"\0\0\0\x10ftypavif\0\0\0\0", b"")


@given(st.sampled_from(MAGICS), st.binary())
def test_any_beginning_is_a_refusal(magic: bytes, rest: bytes) -> None:
    with pytest.raises(InvalidInput):
        inspect(magic + rest, LIMITS)


def test_a_type_that_says_image_or_nothing_is_taken() -> None:
    for sent in ("Image/PNG; charset=x", "image/jpg", "image/gif", "application/octet-stream", None, ""):
        require_image_type(sent)
    for other in ("text/plain", "multipart/form-data; boundary=x", "application/json"):
        with pytest.raises(
            UnsupportedMedia, match="image/png, image/jpeg, image/webp, image/avif, application/octet-stream"
        ):
            require_image_type(other)
