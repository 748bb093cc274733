"""Uploaded images: checked by content, stored under their hash, named by it in requests."""

import contextlib
from collections.abc import Iterator

from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gateway.http.errors import UnknownUpload, UploadsFull
from dreamforge.gateway.read.replies import UploadReply
from dreamforge.gateway.submit.image_process import ImageProcesses
from dreamforge.runtime.storage.objects import ObjectStore, object_key, sha256_of, upload_key

# Each decode may use one processor, and hold up to sixteen bytes a pixel.
DECODES_AT_ONCE = 2


class Uploads:
    """Stores checked images in the object store."""

    def __init__(self, objects: ObjectStore, limits: Limits, *, at_once: int, decode_seconds: float) -> None:
        """`at_once`: uploads whose bytes may be in memory. `decode_seconds`: what the decoding of one may take."""
        self._at_once = at_once
        self._received = 0
        self._objects = objects
        self._processes = ImageProcesses(limits, at_once=DECODES_AT_ONCE, timeout_seconds=decode_seconds)

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Memory for the bytes of one upload. Errors: UploadsFull."""
        if self._received >= self._at_once:
            raise UploadsFull(maximum=self._at_once)
        self._received += 1
        try:
            yield
        finally:
            self._received -= 1

    async def close(self) -> None:
        """End the processes that decode."""
        await self._processes.close()

    async def keep(self, data: bytes, root: str = "") -> UploadReply:
        """Check and store; the same bytes are the same upload. `root` is the prefix of every path.

        Errors: those of `ImageProcesses.inspect`.
        """
        header = await self._processes.inspect(data)
        sha256 = sha256_of(data)
        if not await self._objects.exists(upload_key(sha256)):
            size = {"width-px": str(header.width_px), "height-px": str(header.height_px)}
            await self._objects.put(upload_key(sha256), data, header.content_type, size)
        return UploadReply(
            sha256=sha256,
            width_px=header.width_px,
            height_px=header.height_px,
            size_bytes=len(data),
            content_type=header.content_type,
            url=f"{root}/v1/uploads/{sha256}",
        )

    async def require(self, request: RenderRequest) -> None:
        """Check that each named image is stored. Errors: UnknownUpload(field, value), DependencyAway."""
        for field, sha256 in _named(request):
            if not (await self._objects.exists(upload_key(sha256)) or await self._adopt(sha256)):
                raise UnknownUpload(field=field, value=sha256)

    async def size_of(self, field: str, sha256: str) -> tuple[int, int]:
        """Width and height in pixels, as a viewer shows it, of an upload or of an image that was rendered here.

        Read from the bytes: uploads of earlier releases carry the size of their header, which may lie on its side.
        Errors: UnknownUpload(field, value), UploadsFull, those of `ImageProcesses.inspect`.
        """
        with self.room():
            for key in (upload_key(sha256), object_key(sha256)):
                with contextlib.suppress(ArtifactNotFound):
                    header = await self._processes.inspect(await self._objects.get(key))
                    return header.width_px, header.height_px
        raise UnknownUpload(field=field, value=sha256)

    async def _adopt(self, sha256: str) -> bool:
        """Copy an image that was rendered here to the uploads, because artifacts that no job shows are deleted.

        False if there is none. Errors: DependencyAway.
        """
        try:
            await self._objects.copy(object_key(sha256), upload_key(sha256))
        except ArtifactNotFound:
            return False
        return True


def _named(request: RenderRequest) -> Iterator[tuple[str, str]]:
    control = request.control.image if request.control is not None else None
    named = (("init_image", request.init_image), ("mask_image", request.mask_image), ("control/image", control))
    return ((field, sha256) for field, sha256 in named if sha256 is not None)
