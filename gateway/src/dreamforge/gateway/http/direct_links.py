"""Pictures straight from the object store: a redirect to a signed link that is valid for minutes."""

from datetime import timedelta
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from dreamforge.contracts.pictures.formats import CONTENT_TYPES
from dreamforge.gateway.http.byte_range import etag_of, is_known
from dreamforge.gateway.http.stored_bytes import IMMUTABLE, StoredImage, StoredObjects, image_headers
from dreamforge.runtime.storage.s3_client import s3_client
from dreamforge.runtime.storage.settings import ObjectStoreSettings

# A link is made without a request.
_NO_REQUEST_SECONDS = 1.0
# `fetch()` of a page would need the store to allow the page's origin (CORS): it gets the bytes from here.
BY_SCRIPTS = frozenset({"cors", "same-origin"})


class DirectLinks:
    """Signs links for the address under which clients reach the store; a signature covers that address."""

    def __init__(self, settings: ObjectStoreSettings, public_url: str, valid_seconds: int) -> None:
        parts = urlsplit(public_url)
        self.origin, self._valid_seconds, self._bucket = public_url, valid_seconds, settings.s3_bucket
        self._client = s3_client(
            parts.netloc,
            settings.s3_access_key,
            settings.s3_secret_key.get_secret_value(),
            secure=parts.scheme == "https",
            region=settings.s3_region,
            timeout_seconds=_NO_REQUEST_SECONDS,
        )

    def link(self, image: StoredImage, content_type: str) -> str:
        """A GET of one object, with the headers that the gateway would have sent."""
        return self._client.presigned_get_object(
            bucket_name=self._bucket,
            object_name=image.key,
            expires=timedelta(seconds=self._valid_seconds),
            response_headers={
                "response-content-type": content_type,
                "response-content-disposition": image_headers("", image.file_name)["Content-Disposition"],
                "response-cache-control": IMMUTABLE,
            },
        )

    async def respond(self, request: Request, objects: StoredObjects, image: StoredImage) -> Response | None:
        """The redirect; None where the gateway has to answer itself.

        That is a HEAD (a link is of one method), a picture that the client has, a script of a page, and a video:
        players ask for its parts at the address that they were sent to, when that link is no longer valid.
        Errors: ArtifactNotFound, DependencyAway.
        """
        etag, asked = etag_of(image.sha256), request.headers
        if request.method != "GET" or is_known(asked.get("if-none-match"), etag):
            return None
        if asked.get("sec-fetch-mode") in BY_SCRIPTS:
            return None
        content_type = (await objects.head(image.key)).content_type
        if content_type not in CONTENT_TYPES or not content_type.startswith("image/"):
            return None
        # A redirect that a client keeps leads to a link that is valid for half of its time at least.
        kept = f"private, max-age={self._valid_seconds // 2}"
        headers = {"Location": self.link(image, content_type), "Cache-Control": kept, "Vary": "Sec-Fetch-Mode"}
        return Response(status_code=307, headers=headers)
