"""The request in a picture, as a process that can be killed reads it: see `submit.image_process`."""

import io
import json
import zlib
from typing import Any

from PIL import Image

from dreamforge.contracts.pictures.foreign.imported import ImportedRequest
from dreamforge.contracts.pictures.foreign.read import read_request
from dreamforge.contracts.pictures.metadata import PARAMETERS_KEY, TEXT_BYTES_MAX, PictureMetadata, read_metadata
from dreamforge.contracts.pictures.segments import DamagedPicture
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.http.errors import BadPicture
from dreamforge.gateway.submit.image_headers import FORMATS, read_header
from dreamforge.gateway.submit.inspect_image import inspect

#: What the alpha channel of a picture begins with that hides a text there: plain, and packed by gzip. NovelAI and the
#: extension sd-webui-stealth-pnginfo of A1111 write the lowest bits, column by column.
_PLAIN, _PACKED = b"stealth_pnginfo", b"stealth_pngcomp"
_LENGTH_BYTES = 4
_BITS = bytes(ord("1") if byte & 1 else ord("0") for byte in range(256))
_GZIP = 31  # zlib's `wbits` for data with gzip's header


def read_picture(data: bytes, limits: Limits) -> ImportedRequest | None:
    """The request in the texts of a picture, else in its alpha channel; None where there is none.

    Errors: BadPicture; of a picture without a text that is known, also those of `inspect`.
    """
    read_header(data)
    try:
        found = read_request(read_metadata(data))
    except DamagedPicture as error:
        raise BadPicture(str(error)) from None
    return found or read_request(PictureMetadata(None, _hidden_texts(data, limits)))


def _hidden_texts(data: bytes, limits: Limits) -> dict[str, str]:
    header = inspect(data, limits)
    with Image.open(io.BytesIO(data), formats=[FORMATS[header.content_type]]) as image:
        if image.mode != "RGBA":
            return {}
        column_by_column = image.getchannel("A").transpose(Image.Transpose.TRANSPOSE).tobytes()
    return texts_of(hidden_text(column_by_column))


def hidden_text(alpha: bytes) -> str:
    """The text in the lowest bits of an alpha channel, given column by column; "" where there is none."""
    mark = _bytes_of(alpha, 0, len(_PLAIN))
    if mark not in (_PLAIN, _PACKED):
        return ""
    bits = int.from_bytes(_bytes_of(alpha, len(mark), _LENGTH_BYTES))
    body = _bytes_of(alpha, len(mark) + _LENGTH_BYTES, min(bits // 8, TEXT_BYTES_MAX))
    if mark == _PACKED:
        try:
            body = zlib.decompressobj(_GZIP).decompress(body, TEXT_BYTES_MAX)
        except zlib.error:
            return ""
    return body.decode("utf-8", "replace")


def _bytes_of(alpha: bytes, start: int, count: int) -> bytes:
    """So many bytes from a byte on, each of eight lowest bits; fewer where the picture ends before."""
    bits = alpha[start * 8 : (start + count) * 8].translate(_BITS)
    whole = len(bits) // 8
    return int(bits[: whole * 8], 2).to_bytes(whole) if whole else b""


def texts_of(text: str) -> dict[str, str]:
    """A hidden text as the texts of a PNG: those of NovelAI are an object, A1111's is its own."""
    try:
        found: Any = json.loads(text)  # Any: JSON
    except (ValueError, RecursionError):
        return {PARAMETERS_KEY: text} if text else {}
    if not isinstance(found, dict):
        return {}
    return {str(name): each if isinstance(each, str) else json.dumps(each) for name, each in found.items()}
