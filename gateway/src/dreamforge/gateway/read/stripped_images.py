"""Rendered images without recipe and texts: made when they are asked for, and kept in memory up to a bound."""

import asyncio
from collections import OrderedDict
from dataclasses import replace

from loguru import logger

from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.contracts.pictures.segments import DamagedPicture
from dreamforge.contracts.pictures.strip import without_recipe
from dreamforge.runtime.storage.objects import ObjectHead, ObjectStore

# About twenty PNGs of 1024 x 1024; what was dropped is made again from the same bytes, to the same bytes.
KEPT_BYTES = 32 * 2**20
# Each holds an original and its copy.
MADE_AT_ONCE = 2


class StrippedImages:
    """Objects of the store as if they had been stored so: `head` and `get` as of `ObjectStore`."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._making = asyncio.Semaphore(MADE_AT_ONCE)

    async def head(self, key: str) -> ObjectHead:
        """Size, type and time. Errors: ArtifactNotFound, DependencyAway."""
        return replace(await self._objects.head(key), size_bytes=len(await self._stripped(key)))

    async def get(self, key: str, *, offset: int = 0, length: int = 0) -> bytes:
        """A part, as of `ObjectStore.get`. Errors: ArtifactNotFound, DependencyAway."""
        data = await self._stripped(key)
        return data[offset : offset + length if length else None]

    async def _stripped(self, key: str) -> bytes:
        async with self._making:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            original = await self._objects.get(key)
            try:
                made = await asyncio.to_thread(without_recipe, original)
            except DamagedPicture as error:  # never answered with the recipe in it
                logger.error("object {} is no picture that can be read: {}", key, error)
                raise ArtifactNotFound(artifact_id=key) from None
            self._kept[key] = made
            while len(self._kept) > 1 and sum(map(len, self._kept.values())) > KEPT_BYTES:
                self._kept.popitem(last=False)
            return made
