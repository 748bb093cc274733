"""Stores images in the object store under their content hash, each once as far as this process remembers."""

import math
from collections import OrderedDict
from typing import Protocol

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime import clock
from dreamforge.runtime.service import retry
from dreamforge.runtime.storage.objects import object_key

#: Digests of images that this process has stored; 4,096 of them are half a megabyte.
REMEMBERED = 4_096
#: How long an object is relied on to be there: far below the collector's grace of an hour, which counts from
#: the last time that an object was stored.
REMEMBERED_SECONDS = 600.0


class Objects(Protocol):
    """The part of the object store that an upload needs."""

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store bytes. Errors: DependencyAway."""
        ...


class ArtifactUploader:
    """Stores images, for as long as it takes: an image is never rendered again because its upload failed."""

    def __init__(
        self, objects: Objects, *, remembered: int = REMEMBERED, remembered_seconds: float = REMEMBERED_SECONDS
    ) -> None:
        self._objects, self._remembered, self._seconds = objects, remembered, remembered_seconds
        self._stored: OrderedDict[str, float] = OrderedDict()  # digest -> when it was stored, oldest first

    async def store(self, sha256: str, data: bytes, content_type: str) -> None:
        """Store an image. Waits while the store is unavailable; cancel it to give up."""
        if clock.monotonic_seconds() - self._stored.get(sha256, -math.inf) < self._seconds:
            return
        key = object_key(sha256)
        await retry.until_it_works(
            "the object store", lambda: self._objects.put(key, data, content_type), DependencyAway
        )
        self._stored[sha256] = clock.monotonic_seconds()
        self._stored.move_to_end(sha256)
        while len(self._stored) > self._remembered:
            self._stored.popitem(last=False)
