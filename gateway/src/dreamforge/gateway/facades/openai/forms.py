"""The bodies of OpenAI's image API: JSON for generations, forms with files for edits and variations."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from dreamforge.gateway.facades.json_body import json_object
from dreamforge.gateway.http.errors import InvalidRequest, UnsupportedMedia, Violation, pointer
from dreamforge.gateway.routes.common import dependencies_of
from dreamforge.gateway.submit.submit import body_of

FORM = "multipart/form-data"
# Images and a mask; more are read to be refused by name.
FILES_MAX, FIELDS_MAX = 20, 40
# Fields that are text in JSON too; of the others, which a form has as text, the text is JSON.
_TEXTS = frozenset(
    ("prompt", "negative_prompt", "model", "size", "quality", "user", "background", "response_format", "output_format")
)


async def json_fields(request: Request) -> dict[str, Any]:
    """The fields of a JSON body. Errors: BodyTooLarge, UnsupportedMedia, NotJson, InvalidRequest."""
    return await json_object(request, dependencies_of(request).limits.body_bytes)


async def form_fields(request: Request) -> tuple[dict[str, Any], dict[str, list[bytes]]]:
    """The fields of a form, and the bytes of its files, `image[]` under `image`.

    Errors: BodyTooLarge, UnsupportedMedia, InvalidRequest.
    """
    given = request.headers.get("content-type", "")
    if not given.lower().startswith(FORM):
        raise UnsupportedMedia(given=given[:80], allowed=(FORM,))
    limits = dependencies_of(request).limits
    # One image and its mask, or several smaller ones; the text of the form is little beside them.
    body = await body_of(request, 2 * limits.upload_bytes + limits.body_bytes)
    fields: dict[str, Any] = {}
    files: dict[str, list[bytes]] = {}
    for name, value in await _parts(request.headers, body):
        if isinstance(value, UploadFile):
            files.setdefault(name.removesuffix("[]"), []).append(await value.read())
        else:
            fields[name] = _value(name, value)
    return fields, files


async def _parts(headers: Headers, body: bytes) -> list[tuple[str, UploadFile | str]]:
    async def stream() -> Any:  # Any: an asynchronous generator of bytes
        yield body

    try:
        form = await MultiPartParser(headers, stream(), max_files=FILES_MAX, max_fields=FIELDS_MAX).parse()
    except (MultiPartException, KeyError) as error:
        raise InvalidRequest(violations=(Violation(f"the form cannot be read: {error}", ""),)) from None
    return form.multi_items()


def _value(name: str, text: str) -> object:
    """A field of a form as JSON has it."""
    if name in _TEXTS:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def images_of(files: Mapping[str, list[bytes]], most: int) -> tuple[list[bytes], bytes | None]:
    """The images of an edit, 1 to `most`, and its mask if there is one.

    Errors: InvalidRequest for none, more, and other files.
    """
    wrong = [
        Violation("is not a file of this interface: send image and, if you like, mask", pointer((name,)))
        for name in files
        if name not in ("image", "mask")
    ]
    images, masks = files.get("image", []), files.get("mask", [])
    if not 1 <= len(images) <= most:
        said = "is missing: send the image to start from"
        if images:
            said = "may be given once: one image is edited" if most == 1 else f"may be given {most} times"
        wrong.append(Violation(said, pointer(("image",))))
    if len(masks) > 1:
        wrong.append(Violation("may be given once", pointer(("mask",))))
    if wrong:
        raise InvalidRequest(violations=tuple(wrong))
    return images, masks[0] if masks else None
