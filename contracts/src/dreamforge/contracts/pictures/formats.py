"""The file formats of pictures and videos: what a request calls them, their content types and file names."""

from dataclasses import dataclass
from typing import Literal, get_args

# `webp_lossless` is WebP whose pixels are exact.
OutputFormat = Literal["png", "jpeg", "webp", "webp_lossless", "avif", "mp4"]
ContentType = Literal["image/png", "image/jpeg", "image/webp", "image/avif", "video/mp4"]
CONTENT_TYPES: tuple[ContentType, ...] = get_args(ContentType)
# The most pixels of a side: JPEG (ITU-T T.81, B.2.2), WebP (RFC 9649, section 2.5), H.264 (level 6.2, its A.3),
# and what the others do not bound.
_JPEG_SIDE_PX, _WEBP_SIDE_PX, _H264_SIDE_PX, _ANY_SIDE_PX = 65_500, 16_383, 16_384, 65_536


@dataclass(frozen=True, slots=True)
class FileFormat:
    """One format. `quality` is the default of `output_quality`; None: pixels are exact and there is no quality."""

    content_type: ContentType
    extension: str
    side_px_max: int
    quality: int | None = None
    is_video: bool = False


FORMATS: dict[OutputFormat, FileFormat] = {
    "png": FileFormat("image/png", ".png", _ANY_SIDE_PX),
    "jpeg": FileFormat("image/jpeg", ".jpg", _JPEG_SIDE_PX, 90),
    "webp": FileFormat("image/webp", ".webp", _WEBP_SIDE_PX, 90),
    "webp_lossless": FileFormat("image/webp", ".webp", _WEBP_SIDE_PX),
    "avif": FileFormat("image/avif", ".avif", _ANY_SIDE_PX, 75),
    # H.264 at a constant rate factor of 18, which is hard to tell from the original.
    "mp4": FileFormat("video/mp4", ".mp4", _H264_SIDE_PX, 65, is_video=True),
}
IMAGE_FORMATS: tuple[OutputFormat, ...] = tuple(name for name, each in FORMATS.items() if not each.is_video)
VIDEO_FORMATS: tuple[OutputFormat, ...] = tuple(name for name, each in FORMATS.items() if each.is_video)
LOSSY: tuple[OutputFormat, ...] = tuple(name for name, each in FORMATS.items() if each.quality is not None)
_EXTENSIONS = {each.content_type: each.extension for each in FORMATS.values()}
# Major brands of AVIF: a still image, and a sequence (AV1 Image File Format, section 6).
_AVIF_BRANDS = (b"avif", b"avis")
# Those of MP4 that ffmpeg writes.
_MP4_BRANDS = (b"isom", b"mp42", b"avc1", b"iso5", b"iso6")


def extension_of(content_type: str) -> str:
    """The end of a file's name; of an unknown type that of PNG, which all were before there was a choice.

    >>> extension_of("image/jpeg"), extension_of("video/mp4"), extension_of("")
    ('.jpg', '.mp4', '.png')
    """
    return _EXTENSIONS.get(content_type, ".png")  # type: ignore[call-overload, no-any-return]  # any text is a key to ask for


def content_type_of(data: bytes) -> ContentType | None:
    """What a file is by its first bytes; None for what we do not write.

    >>> content_type_of(bytes.fromhex("89504e470d0a1a0a")), content_type_of(b"GIF89a")
    ('image/png', None)
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data[4:8] == b"ftyp" and data[8:12] in _AVIF_BRANDS:
        return "image/avif"
    if data[4:8] == b"ftyp" and data[8:12] in _MP4_BRANDS:
        return "video/mp4"
    return None
