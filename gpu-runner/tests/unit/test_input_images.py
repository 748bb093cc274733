"""An image file becomes the pixels that a viewer shows, a mask becomes what its author drew, and notes say how."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw

from dreamforge.gpu_runner.rendering.input_images import NotAnImage, decode_image, decode_mask

SIZE = (32, 16)


def scene(size: tuple[int, int] = SIZE) -> Image.Image:
    image = Image.new("RGB", size, (40, 80, 200))
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2 - 1, size[1] - 1), fill=(230, 40, 30))
    return image


def left() -> Image.Image:
    """White on the left half: what every mask here means."""
    mask = Image.new("L", SIZE, 0)
    mask.paste(255, (0, 0, SIZE[0] // 2, SIZE[1]))
    return mask


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:  # Any: of every encoder
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def ramp(most: int) -> NDArray[np.int64]:
    return np.linspace(0, most, SIZE[0]).round().astype(np.int64)[None, :].repeat(SIZE[1], axis=0)


def deep_grey(values: NDArray[np.int64]) -> bytes:
    return encoded(Image.fromarray(values.astype(np.uint16)))


def deep_png(colour_type: int, samples: NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write in colour."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def rgb(data: bytes) -> NDArray[np.int16]:
    return np.asarray(decode_image(data).image).astype(np.int16)


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def profile(kind: bytes, space: bytes, connection: bytes, name: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile, version 2.4."""
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(79)
    white = b"XYZ \0\0\0\0" + fixed(0.9642) + fixed(1) + fixed(0.8249)
    tags = {b"desc": described, b"cprt": b"text\0\0\0\0none\0", b"wtpt": white} | tags
    body, table, at = b"", struct.pack(">I", len(tags)), 132 + 12 * len(tags)
    for tag, each in tags.items():
        padded = each + bytes(-len(each) % 4)
        table += tag + struct.pack(">II", at + len(body), len(padded))
        body += padded
    head = struct.pack(">I4sI4s4s4s", 128 + len(table) + len(body), b"none", 0x02400000, kind, space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + white[8:]
    return head.ljust(128, b"\0") + table + body


def swapped_profile() -> bytes:
    """Its red is sRGB's green, its green blue, and its blue red; gamma 2.2."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    red, green, blue = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)
    tags = {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve, b"rXYZ": xyz(green), b"gXYZ": xyz(blue), b"bXYZ": xyz(red)}
    return profile(b"mntr", b"RGB ", b"XYZ ", b"swapped", tags)


def grey_ink_profile() -> bytes:
    """CMYK in which cyan is a middle grey, black is black, and the other two inks cannot be seen."""
    corners = [(ink >> 3 & 1, ink & 1) for ink in range(16)]  # cyan and black of each corner of the table
    lightness = bytes(0 if black else 128 if cyan else 255 for cyan, black in corners)
    identity = b"".join(fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    colours = b"".join(bytes((level, 128, 128)) for level in lightness)
    table = (
        b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + bytes(range(256)) * 4 + colours + bytes(range(256)) * 3
    )
    return profile(b"prtr", b"CMYK", b"Lab ", b"grey ink", {b"A2B0": table})


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "data",
    [
        encoded(scene()),
        encoded(scene(), icc_profile=srgb()),
        encoded(scene().convert("P", palette=Image.Palette.ADAPTIVE)),
        encoded(scene().convert("RGBA")),
        encoded(scene(), "WEBP", lossless=True),
    ],
    ids=["plain", "srgb-profile", "palette", "opaque-alpha", "webp"],
)
def test_a_plain_file_gives_its_own_pixels_without_a_note(data: bytes) -> None:
    read = decode_image(data)
    assert read.notes == ()
    assert (np.asarray(read.image) == np.asarray(scene())).all()


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    expected = (ramp(65_535) / 257).round()
    grey = decode_image(deep_grey(ramp(65_535)))
    assert grey.notes == ("16 bits a channel scaled to 8",)
    assert (abs(np.asarray(grey.image)[..., 0] - expected) <= 1).all()
    for colour_type, channels in ((2, 3), (4, 2), (6, 4)):
        samples = np.full((*SIZE[::-1], channels), 65_535, dtype=np.uint16)
        samples[..., 0] = ramp(65_535)
        read = decode_image(deep_png(colour_type, samples))
        assert "16 bits a channel scaled to 8" in read.notes
        assert (abs(np.asarray(read.image)[..., 0] - expected) <= 1).all(), colour_type
    mask = decode_mask(deep_grey(np.where(ramp(1) > 0, 40_000, 600)))
    assert set(np.unique(np.asarray(mask.image))) == {2, 156}


def test_colours_come_by_the_profile_in_the_file() -> None:
    read = decode_image(encoded(scene(), icc_profile=swapped_profile()))
    assert read.notes == ("converted to sRGB from its colour profile (swapped)",)
    pixels = np.asarray(read.image).astype(np.int16)
    assert (abs(pixels[0, 0] - (30, 230, 40)) < 12).all(), "red was its green"
    assert decode_image(encoded(scene(), "JPEG", quality=95, icc_profile=swapped_profile())).notes == read.notes
    mask = decode_mask(encoded(left().convert("RGB"), icc_profile=swapped_profile()))
    assert (mask.image.tobytes(), mask.notes) == (left().tobytes(), ()), "a mask has no colours"


def test_a_profile_that_does_not_fit_or_cannot_be_read_is_ignored_with_a_note() -> None:
    for profile, note in ((b"nonsense", "damaged"), (swapped_profile()[:200], "damaged")):
        read = decode_image(encoded(scene(), icc_profile=profile))
        assert len(read.notes) == 1
        assert note in read.notes[0]
        assert (np.asarray(read.image) == np.asarray(scene())).all()
    cmyk = decode_image(encoded(scene().convert("CMYK"), "JPEG", quality=95, icc_profile=swapped_profile()))
    assert "RGB colour profile does not fit" in cmyk.notes[0]


def test_cmyk_is_converted_by_its_own_profile() -> None:
    cyan = Image.new("CMYK", SIZE, (255, 0, 0, 0))
    read = decode_image(encoded(cyan, "JPEG", quality=95, icc_profile=grey_ink_profile()))
    assert read.notes == ("converted to sRGB from its colour profile (grey ink)",)
    pixel = read.image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    assert all(abs(channel - 119) < 4 for channel in pixel), "L* 50 is 119 in sRGB"


def test_cmyk_without_a_profile_is_converted_with_a_note() -> None:
    read = decode_image(encoded(scene().convert("CMYK"), "JPEG", quality=95))
    assert "CMYK" in read.notes[0]
    assert abs(np.asarray(read.image).astype(np.int16) - np.asarray(scene())).mean() < 6


def test_the_gamma_of_a_png_is_applied_where_it_has_no_profile() -> None:
    plain = encoded(Image.new("RGB", SIZE, (128, 128, 128)))
    at = plain.index(b"IDAT") - 4

    def with_gamma(value: float) -> bytes:
        body = b"gAMA" + struct.pack(">I", round(value * 100_000))
        return plain[:at] + struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body)) + plain[at:]

    assert decode_image(with_gamma(1 / 2.2)).notes == ()
    linear = decode_image(with_gamma(1.0))
    assert "gamma" in linear.notes[0]
    assert linear.image.getpixel((0, 0)) == (186, 186, 186)


def test_what_is_transparent_lies_on_white_whatever_stores_the_alpha() -> None:
    holed = scene().convert("RGBA")
    holed.putalpha(left())
    palette = scene().quantize(4)
    red = palette.getpixel((0, 0))
    cases: dict[str, tuple[bytes, tuple[int, int]]] = {
        "rgba": (encoded(holed), (31, 0)),
        "palette": (encoded(palette, transparency=red), (0, 0)),
        "quantized": (encoded(holed.quantize(8)), (31, 0)),
        "webp": (encoded(holed, "WEBP", lossless=True), (31, 0)),
        "grey-alpha": (encoded(Image.merge("LA", (Image.new("L", SIZE, 9), left()))), (31, 0)),
        "rgb-key": (encoded(scene(), transparency=(40, 80, 200)), (31, 0)),
        "grey-key": (encoded(Image.new("L", SIZE, 9), transparency=9), (31, 0)),
    }
    for name, (data, where) in cases.items():
        read = decode_image(data)
        assert "where it is transparent it is white" in read.notes, name
        assert read.image.getpixel(where) == (255, 255, 255), name


def test_an_image_is_turned_as_its_camera_was_held() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "WEBP"):
        read = decode_image(encoded(scene(), kind, exif=exif))
        assert read.image.size == SIZE[::-1]
        assert "turned" in read.notes[0]
    damaged = decode_image(encoded(scene(), "JPEG", exif=b"Exif\0\0nonsense"))
    assert damaged.image.size == SIZE


def test_the_first_image_counts_and_bytes_behind_it_do_not() -> None:
    other = scene().transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        moving = decode_image(encoded(scene(), kind, save_all=True, append_images=[other], **options))
        assert moving.notes == ("the first of 2 images in the file",)
        assert (np.asarray(moving.image) == np.asarray(scene())).all()
    gain_map = encoded(scene(), "MPO", save_all=True, append_images=[other.resize((8, 4))], quality=95)
    assert abs(rgb(gain_map) - np.asarray(scene())).mean() < 4
    photo = encoded(scene(), "JPEG", quality=95)
    film = struct.pack(">I", 24) + b"ftypmp42" + bytes(16) + b"\xff\xd8\xff" * 5
    assert (rgb(photo + film) == rgb(photo)).all()
    assert (rgb(encoded(scene()) + bytes(32)) == np.asarray(scene())).all()


@pytest.mark.parametrize("data", [b"", b"GIF89a" + bytes(20), b"<svg/>", encoded(scene())[:60], b"%!PS-Adobe"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    for decode in (decode_image, decode_mask):
        with pytest.raises(NotAnImage):
            decode(data)


def drawn(colour: tuple[int, int, int], alpha: Image.Image) -> Image.Image:
    image = Image.new("RGBA", SIZE, (*colour, 255))
    image.putalpha(alpha)
    return image


def photograph(alpha: Image.Image) -> Image.Image:
    image = scene()
    image.paste((20, 200, 90), (24, 0, 32, 16))
    image.putalpha(alpha)
    return image


INVERTED = Image.eval(left(), lambda value: 255 - value)


@pytest.mark.parametrize(
    ("mask", "note"),
    [
        (left(), None),
        (left().convert("1"), None),
        (left().convert("RGBA"), None),
        (drawn((255, 255, 255), left()), "what is opaque"),
        (drawn((200, 30, 30), left()), "what is opaque"),
        (Image.merge("LA", (Image.new("L", SIZE, 255), left())), "what is opaque"),
        (drawn((0, 0, 0), INVERTED), "what is transparent"),
        (photograph(INVERTED), "what is transparent"),
    ],
    ids=["grey", "one-bit", "opaque", "white-on-transparent", "red-on-transparent", "la", "erased", "holed-photograph"],
)
def test_a_mask_means_what_was_drawn_however_an_editor_saves_it(mask: Image.Image, note: str | None) -> None:
    read = decode_mask(encoded(mask))
    assert read.image.tobytes() == left().tobytes()
    assert any(note in each for each in read.notes) if note else read.notes == ()


def test_a_mask_in_greys_is_nothing_where_it_is_transparent() -> None:
    grey = left().convert("RGBA")
    ImageDraw.Draw(grey).rectangle((28, 0, 31, 15), fill=(255, 255, 255, 0))
    read = decode_mask(encoded(grey))
    assert read.image.tobytes() == left().tobytes()
    assert "nothing" in read.notes[0]
    assert decode_mask(encoded(drawn((255, 255, 255), Image.new("L", SIZE, 0)))).image.getextrema() == (0, 0)
