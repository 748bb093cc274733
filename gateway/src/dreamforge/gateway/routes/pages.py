"""Pages for people: the studio, the API, the events. Each is self-contained."""

import base64
import hashlib
import json
import re
from asyncio import to_thread
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.jobs.course import status_table
from dreamforge.gateway.documents import asyncapi, openapi_page
from dreamforge.gateway.documents.openapi import ApiDocument

router = APIRouter(include_in_schema=False)
HTML = "text/html; charset=utf-8"
# Browsers request it on their own, so no page has to name it.
ICON = (
    b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" fill="#c2401b"/>'
    b'<path d="M3 5h10v2q-3 0-3 3l2 2H4l2-2q0-3-3-3z" fill="#fff"/></svg>'
)
_NAMED = re.compile(r"/\* ([a-z_]+\.(?:css|js)) \*/")
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """A document and the content security policy that allows exactly its own script and style."""

    body: bytes
    policy: str

    @classmethod
    def of(cls, text: str, *, images: str = "") -> "Page":
        """`images` names further sources of images."""
        allowed: dict[str, list[str]] = {"script": [], "style": []}
        for kind, inline in _INLINE.findall(text):
            digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
            allowed[kind].append(f"'sha256-{digest}'")
        parts = (
            "default-src 'none'",
            f"script-src {' '.join(allowed['script']) or chr(39) + 'none' + chr(39)}",
            f"style-src {' '.join(allowed['style']) or chr(39) + 'none' + chr(39)}",
            f"img-src 'self' {images}".strip(),
            "media-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
        return cls(text.encode(), "; ".join(parts))

    def response(self) -> Response:
        """The page with its policy."""
        return Response(self.body, 200, {"Content-Security-Policy": self.policy, "Cache-Control": "no-cache"}, HTML)


class Pages:
    """All pages of an application, each made once: those of its document when they are first asked for."""

    def __init__(self, document: ApiDocument, pictures_url: str = "") -> None:
        """Previews come as data in events; a mask that is drawn and files that are chosen never leave the page."""
        self.studio = _studio_page(pictures_url)
        self._document = document

    @cached_property
    def docs(self) -> Page:
        """The API, readable."""
        return Page.of(openapi_page.render(self._document.read()))

    @cached_property
    def openapi(self) -> bytes:
        """The API, for programs."""
        return json.dumps(self._document.read(), sort_keys=True).encode()


@cache
def _studio_page(pictures_url: str) -> Page:
    return Page.of(studio_text(), images=f"data: {pictures_url}".strip())


def studio_text() -> str:
    """The studio as one document: each `/* name */` in it stands for the file of that name beside it."""
    return _NAMED.sub(lambda found: studio_file(found[1]), studio_file("page.html"))


def studio_file(name: str) -> str:
    """One file of the studio, with the contracts' table of job statuses where it names it."""
    text = (files("dreamforge.gateway") / "static" / "studio" / name).read_text(encoding="utf-8")
    return text.replace('"STATUS_TABLE"', json.dumps(status_table()))


@cache
def _events_page() -> Page:
    return Page.of(_events_files()["index.html"])


@cache
def _events_files() -> dict[str, str]:
    return asyncapi.files()


@router.get("/")
async def studio(request: Request) -> Response:
    """The studio."""
    pages: Pages = request.app.state.pages
    return pages.studio.response()


@router.get("/favicon.ico")
async def icon() -> Response:
    """The icon: an anvil."""
    return Response(ICON, 200, {"Cache-Control": "max-age=86400"}, "image/svg+xml")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The API, readable."""
    pages: Pages = request.app.state.pages
    return (await to_thread(lambda: pages.docs)).response()


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The API, for programs."""
    pages: Pages = request.app.state.pages
    return Response(await to_thread(lambda: pages.openapi), media_type="application/json")


@router.get("/asyncapi")
async def events() -> Response:
    """The events, readable: computed from the event classes, like the committed document."""
    return _events_page().response()


@router.get("/asyncapi.json")
async def events_document() -> Response:
    """The events, for programs."""
    return Response(_events_files()["asyncapi.json"], media_type="application/json")
