"""The metadata in a picture file, of ours and of other programs: texts, EXIF, XMP. Pure, and bounded in memory."""

import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from dreamforge.contracts.pictures import mp4
from dreamforge.contracts.pictures.avif import Box
from dreamforge.contracts.pictures.exif import MAKER, MAKER_NOTE, USER_COMMENT, comment_of, read_exif
from dreamforge.contracts.pictures.formats import ContentType, content_type_of
from dreamforge.contracts.pictures.mark import has_mark
from dreamforge.contracts.pictures.segments import Segment, segments

#: The keyword of our recipe among the texts of a PNG, and where programs for such pictures look for prompt and values.
RECIPE_KEY, PARAMETERS_KEY = "dreamforge", "parameters"
#: Of one text, and of all of one picture, after decompression. Large workflows of ComfyUI take about 1 MiB.
TEXT_BYTES_MAX, TEXTS_BYTES_MAX = 4 << 20, 16 << 20


@dataclass(frozen=True, slots=True)
class PictureMetadata:
    """What was found. `texts` are those of a PNG or MP4 by name, and the comment of a JPEG as "comment"."""

    content_type: ContentType | None
    texts: dict[str, str] = field(default_factory=dict)
    #: By tag, as bytes: see `exif.read_exif`.
    exif: dict[int, bytes] = field(default_factory=dict)
    xmp: bytes = b""
    has_credentials: bool = False

    @property
    def parameters(self) -> str | None:
        """The text of A1111, from where the format has it."""
        comment = self.exif.get(USER_COMMENT)
        return self.texts.get(PARAMETERS_KEY) or (comment_of(comment) if comment else None)

    @property
    def recipe(self) -> dict[str, Any] | None:  # Any: JSON
        """Our recipe; None where there is none, or none that can be read."""
        note = self.exif.get(MAKER_NOTE, b"")
        text = self.texts.get(RECIPE_KEY) or (
            note[len(MAKER) :].decode("utf-8", "replace") if note.startswith(MAKER) else ""
        )
        try:
            found = json.loads(text) if text else None
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    @property
    def is_marked(self) -> bool:
        """Whether it says, readable by machines, that a model generated it."""
        return has_mark(self.xmp)


def read_metadata(data: bytes) -> PictureMetadata:
    """What a file says of itself; of a file of another type nothing. Errors: DamagedPicture."""
    texts: dict[str, str] = {}
    exif: dict[int, bytes] = {}
    xmp, has_credentials, room = b"", False, TEXTS_BYTES_MAX
    for segment in segments(data):
        body = data[segment.body : segment.body_stop][:TEXT_BYTES_MAX]
        match segment.kind:
            case "exif":
                exif |= read_exif(body)
            case "xmp":
                xmp += _png_text(segment, body)[1].encode() if segment.name == b"iTXt" else body
            case "c2pa":
                has_credentials = True
            case "items":
                texts |= _of_items(data, segment)
            case "comment":
                texts.setdefault("comment", body.decode("utf-8", "replace"))
            case "text" if room > 0:
                keyword, text = _png_text(segment, body)
                room -= len(text)
                texts.setdefault(keyword, text)
    return PictureMetadata(content_type_of(data), texts, exif, xmp, has_credentials)


def _of_items(data: bytes, segment: Segment) -> dict[str, str]:
    """Recipe and text of a video; of a damaged list nothing."""
    meta = Box(b"meta", segment.start, segment.body, segment.body_stop)
    try:
        comment, texts = mp4.comment_of(data, meta), mp4.texts_of(data, meta)
    except (ValueError, struct.error):
        return {}
    return {name: text[:TEXT_BYTES_MAX] for name, text in ({PARAMETERS_KEY: comment or ""} | texts).items() if text}


def _png_text(segment: Segment, body: bytes) -> tuple[str, str]:
    """Keyword and text of a chunk tEXt, zTXt or iTXt (PNG specification, section 11.3.4)."""
    keyword, _, rest = body.partition(b"\0")
    encoding, packed = "latin-1", segment.name == b"zTXt"
    if packed:
        rest = rest[1:]
    elif segment.name == b"iTXt":
        encoding, packed = "utf-8", rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
    return keyword.decode("latin-1"), (_unpacked(rest) if packed else rest).decode(encoding, "replace")


def _unpacked(data: bytes) -> bytes:
    """At most TEXT_BYTES_MAX of it; what is damaged is nothing."""
    try:
        return zlib.decompressobj().decompress(data, TEXT_BYTES_MAX)
    except zlib.error:
        return b""
