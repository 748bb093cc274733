"""Removes objects without losing an image that is stored again at the same moment.

Objects are named by their content, so another job may store equal bytes while they are removed here. An object is
therefore set aside first, then removed, and only then it is asked whether something names it: if so, now or within the
grace, it is put back. What names it later has stored it itself, after the removal, as long as a runner appends the
event of an image within the grace after it has stored the image. Each step can be repeated after a crash.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.runtime.storage.objects import ASIDE, StoredObject

Named = Callable[[Sequence[str]], Awaitable[set[str] | None]]
"""Those of the keys that something names now; None while that cannot be said, since the tables are behind the log."""


class RemovalStore(Protocol):
    """The part of the object store that a removal needs."""

    async def exists(self, key: str) -> bool: ...
    async def copy(self, source: str, key: str) -> None: ...
    async def remove(self, key: str) -> None: ...
    async def listed(self, prefix: str) -> list[StoredObject]: ...
    async def now(self) -> datetime: ...


async def set_aside(store: RemovalStore, keys: Iterable[str]) -> int:
    """Take objects away from where they are read; how many there were. Errors: DependencyAway."""
    taken = 0
    for key in keys:
        try:
            await store.copy(key, ASIDE + key)
        except ArtifactNotFound:
            continue
        await store.remove(key)
        taken += 1
    return taken


async def settle(store: RemovalStore, named: Named, *, grace_seconds: float) -> int:
    """Put back what is named after all, and remove for good what was set aside longer ago than the grace.

    How many objects are still aside. Errors: DependencyAway.
    """
    aside = await store.listed(ASIDE)
    wanted = await named([found.key.removeprefix(ASIDE) for found in aside]) if aside else set()
    if wanted is None:
        return len(aside)
    now = await store.now() if aside else None
    left = 0
    for found in aside:
        key = found.key.removeprefix(ASIDE)
        if key in wanted:
            if not await store.exists(key):
                await store.copy(found.key, key)
        elif now is not None and (now - found.modified_at).total_seconds() < grace_seconds:
            left += 1
            continue
        await store.remove(found.key)
    return left


def same_time(now: datetime | None, before: datetime) -> bool:
    """Whether both times are the same: a listing has milliseconds, the header of one object only seconds."""
    return now is not None and abs(now - before) < timedelta(seconds=1)
