"""Uploaded images: checked by content, stored under their hash, named by it in requests.

The bytes are stored once; who has uploaded them is a marker for each tenant. Where the gateway asks for keys, a tenant
reads and names only what it has uploaded itself, or what was rendered for it: `sees` is that tenant, None everywhere
else.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator

from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.contracts.pictures.foreign.imported import ImportedRequest
from dreamforge.contracts.replies import UploadReply
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gateway.http.errors import UnknownUpload, UploadNotFound, UploadsFull
from dreamforge.gateway.submit.image_process import ImageProcesses
from dreamforge.gateway.submit.image_tasks import MaskChange
from dreamforge.runtime.storage.objects import (
    UPLOAD_OWNERS,
    UPLOADS,
    ObjectHead,
    ObjectStore,
    object_key,
    sha256_of,
    upload_deletion_key,
    upload_hash_key,
    upload_key,
    upload_owner_key,
)

# Each decode may use one processor, and hold up to sixteen bytes a pixel.
DECODES_AT_ONCE = 2
RenderedFor = Callable[[str, str | None], Awaitable[bool]]


class Uploads:
    """Stores checked images in the object store."""

    def __init__(
        self, objects: ObjectStore, limits: Limits, rendered: RenderedFor, *, at_once: int, decode_seconds: float
    ) -> None:
        """`rendered(sha256, tenant)`: whether a job of a tenant, or of any, shows an image with these bytes.

        `at_once`: uploads whose bytes may be in memory. `decode_seconds`: what the decoding of one may take.
        """
        self._rendered = rendered
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

    async def keep(self, data: bytes, tenant: str, root: str = "") -> UploadReply:
        """Check and store for a tenant; the same bytes are the same upload. `root` is the prefix of every path.

        They are stored again where they are stored already: the time of the answer says nothing of other tenants.

        Errors: those of `ImageProcesses.inspect`.
        """
        header = await self._processes.inspect(data)
        sha256 = await asyncio.to_thread(sha256_of, data)
        size = {"width-px": str(header.width_px), "height-px": str(header.height_px)}
        await self._objects.put(upload_key(sha256), data, header.content_type, size)
        await self._own(tenant, sha256)
        await self._objects.remove(upload_deletion_key(sha256))
        return UploadReply(
            sha256=sha256,
            width_px=header.width_px,
            height_px=header.height_px,
            size_bytes=len(data),
            content_type=header.content_type,
            url=f"{root}/v1/uploads/{sha256}",
        )

    async def mask_of_alpha(self, data: bytes) -> bytes:
        """A mask as requests take it, from one by transparency. Errors: as `ImageProcesses.mask_of_alpha`."""
        return await self._processes.mask_of_alpha(data)

    async def read(self, field: str, sha256: str, sees: str | None) -> bytes:
        """The bytes of an upload, or of an image that was rendered here, while there is `room`.

        Errors: UnknownUpload(field, value), DependencyAway.
        """
        if await self.visible(sha256, sees) or await self._may_adopt(sha256, sees):
            for key in (upload_key(sha256), object_key(sha256)):
                with contextlib.suppress(ArtifactNotFound):
                    return await self._objects.get(key)
        raise UnknownUpload(field=field, value=sha256)

    async def changed_mask(self, data: bytes, change: MaskChange) -> bytes:
        """A mask as requests take it, from another one. Errors: as `ImageProcesses.changed_mask`."""
        return await self._processes.changed_mask(data, change)

    async def request_in(self, data: bytes) -> ImportedRequest | None:
        """The request in a picture, which is not stored. Errors: as `ImageProcesses.read`."""
        return await self._processes.read(data)

    async def nameable(self, hashes: Iterable[str], sees: str | None) -> frozenset[str]:
        """Those of some images that a request may name. Errors: DependencyAway."""
        return frozenset(
            [each for each in hashes if await self.visible(each, sees) or await self._may_adopt(each, sees)]
        )

    async def require(self, request: RenderRequest, sees: str | None) -> None:
        """Check that each named image is stored. Errors: UnknownUpload(field, value), DependencyAway."""
        for field, sha256 in _named(request):
            if await self.visible(sha256, sees):
                if sees is not None:  # it is in use: as if it was uploaded now, so that it is not collected
                    await self._own(sees, sha256)
            elif not await self._adopt(sha256, sees):
                raise UnknownUpload(field=field, value=sha256)

    async def visible(self, sha256: str, sees: str | None) -> bool:
        """Whether there is an upload that may be read. Errors: DependencyAway."""
        if sees is not None:
            return await self._objects.exists(upload_owner_key(sees, sha256))
        stored = await self._objects.exists(upload_key(sha256))
        return stored and not await self._objects.exists(upload_deletion_key(sha256))

    async def remember_hash(self, tenant: str, blake3: str, sha256: str) -> None:
        """Let an upload of a tenant be found by its BLAKE3 too. Errors: DependencyAway."""
        await self._objects.put(upload_hash_key(tenant, blake3), sha256.encode(), "text/plain")

    async def by_hash(self, tenant: str, blake3: str, sees: str | None) -> str | None:
        """The SHA-256 of an upload of a tenant, by its BLAKE3; None where there is none. Errors: DependencyAway."""
        try:
            sha256 = (await self._objects.get(upload_hash_key(tenant, blake3))).decode()
        except ArtifactNotFound:
            return None
        return sha256 if await self.visible(sha256, sees) else None

    async def head(self, sha256: str, sees: str | None) -> ObjectHead:
        """Size, type and time of an upload. Errors: UploadNotFound, DependencyAway."""
        if await self.visible(sha256, sees):
            with contextlib.suppress(ArtifactNotFound):
                return await self._objects.head(upload_key(sha256))
        raise UploadNotFound(sha256=sha256)

    async def delete(self, sha256: str, tenant: str) -> None:
        """Take an upload away from its owner; its bytes go when no other owner has it and no open job needs it.

        Errors: DependencyAway.
        """
        await self._objects.put(upload_deletion_key(sha256), b"", "application/x-empty")
        await self._objects.remove(upload_owner_key(tenant, sha256))

    async def delete_all(self, tenant: str) -> int:
        """Take every upload away from a tenant; how many there were. Errors: DependencyAway."""
        owned = await self._objects.listed(upload_owner_key(tenant, "")[:-1])
        for each in owned:
            await self.delete(each.key.rpartition("/")[2], tenant)
        for each in await self._objects.listed(upload_hash_key(tenant, "")[:-1]):
            await self._objects.remove(each.key)
        return len(owned)

    async def bytes_of(self, tenants: frozenset[str] | None) -> dict[str, int]:
        """Bytes of the uploads of tenants (None: of all); what several have uploaded counts for each.

        Errors: DependencyAway.
        """
        prefixes = [""] if tenants is None else [f"{tenant}/" for tenant in tenants]
        owned = [each.key for prefix in prefixes for each in await self._objects.listed(f"{UPLOAD_OWNERS}{prefix}")]
        sizes = {each.key: each.size_bytes for each in await self._objects.listed(UPLOADS)} if owned else {}
        used: Counter[str] = Counter()
        for key in owned:
            tenant, _, sha256 = key.removeprefix(UPLOAD_OWNERS).split("/")
            used[tenant] += sizes.get(upload_key(sha256), 0)
        return dict(used)

    async def size_of(self, field: str, sha256: str, sees: str | None) -> tuple[int, int]:
        """Width and height in pixels, as a viewer shows it, of an upload or of an image that was rendered here.

        Read from the bytes: uploads of earlier releases carry the size of their header, which may lie on its side.
        Errors: UnknownUpload(field, value), UploadsFull, those of `ImageProcesses.inspect`.
        """
        with self.room():
            header = await self._processes.inspect(await self.read(field, sha256, sees))
            return header.width_px, header.height_px

    async def _own(self, tenant: str, sha256: str) -> None:
        await self._objects.put(upload_owner_key(tenant, sha256), b"", "application/x-empty")

    async def _may_adopt(self, sha256: str, sees: str | None) -> bool:
        return await self._rendered(sha256, sees)

    async def _adopt(self, sha256: str, sees: str | None) -> bool:
        """Copy an image that was rendered here to the uploads, because artifacts that no job shows are deleted.

        False if there is none that may be read. Errors: DependencyAway.
        """
        if not await self._may_adopt(sha256, sees):
            return False
        try:
            await self._objects.copy(object_key(sha256), upload_key(sha256))
        except ArtifactNotFound:
            return False
        if sees is not None:
            await self._own(sees, sha256)
        await self._objects.remove(upload_deletion_key(sha256))
        return True


def _named(request: RenderRequest) -> Iterator[tuple[str, str]]:
    controls = ((f"control/{index}/image", use.image) for index, use in enumerate(request.control))
    shown = ((f"image_prompts/{index}/image", use.image) for index, use in enumerate(request.image_prompts))
    references = ((f"references/{number}", sha256) for number, sha256 in enumerate(request.references))
    named = (("init_image", request.init_image), ("mask_image", request.mask_image), *controls, *shown, *references)
    return ((field, sha256) for field, sha256 in named if sha256 is not None)
