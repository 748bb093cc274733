"""No interleaving of a removal, with crashes, and a runner that stores the same bytes again, loses the image."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.projector.maintenance.object_removal import set_aside, settle
from dreamforge.runtime.storage.objects import ASIDE, StoredObject

KEY = "images/aa/a.png"
GRACE = timedelta(hours=1)
Pause = Callable[[], Awaitable[None]]


class Crash(Exception):
    """The process that removes ends here."""


class Store:
    """A bucket whose every request is a moment at which others may run."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self.objects: dict[str, datetime] = {KEY: datetime(2026, 1, 1, tzinfo=UTC)}
        self.time = datetime(2026, 1, 2, tzinfo=UTC)

    async def exists(self, key: str) -> bool:
        await self._pause()
        return key in self.objects

    async def copy(self, source: str, key: str) -> None:
        await self._pause()
        if source not in self.objects:
            raise ArtifactNotFound(artifact_id=source)
        self.objects[key] = self.time

    async def remove(self, key: str) -> None:
        await self._pause()
        self.objects.pop(key, None)

    async def listed(self, prefix: str) -> list[StoredObject]:
        await self._pause()
        return [StoredObject(key, 1, at) for key, at in self.objects.items() if key.startswith(prefix)]

    async def now(self) -> datetime:
        await self._pause()
        return self.time


@given(st.data())
@settings(max_examples=500)
def test_an_image_that_is_stored_again_while_it_is_removed_is_not_lost(data: st.DataObject) -> None:
    asyncio.run(_story(data))


async def _story(data: st.DataObject) -> None:
    named = False
    writer = ["put", "append"]

    async def pause() -> None:
        """The runner, or a crash, may come here."""
        while writer and data.draw(st.booleans(), label=f"runner: {writer[0]}"):
            advance()
        if data.draw(st.integers(0, 9), label="crash") == 0:
            raise Crash

    def advance() -> None:
        nonlocal named
        if writer.pop(0) == "put":
            store.objects[KEY] = store.time
        else:
            named = True

    async def who_names(keys: Sequence[str]) -> set[str] | None:
        await pause()
        return ({KEY} if named else set()) & set(keys)

    async def removed() -> None:
        if not await who_names([KEY]):
            await set_aside(store, [KEY])
        await settle(store, who_names, grace_seconds=GRACE.total_seconds())

    store = Store(pause)
    for _ in range(3):
        try:
            await removed()
        except Crash:
            continue
    while writer:
        advance()

    async def no_pause() -> None:
        return None

    store._pause = no_pause
    pause = no_pause  # type: ignore[assignment]
    await settle(store, who_names, grace_seconds=GRACE.total_seconds())
    assert KEY in store.objects
    store.time += 2 * GRACE
    await settle(store, who_names, grace_seconds=GRACE.total_seconds())
    assert set(store.objects) == {KEY}


def test_what_nothing_names_is_gone_after_the_grace() -> None:
    async def story() -> None:
        async def no_pause() -> None:
            return None

        async def nobody(_: Sequence[str]) -> set[str] | None:
            return set()

        store = Store(no_pause)
        assert await set_aside(store, [KEY]) == 1
        assert await settle(store, nobody, grace_seconds=GRACE.total_seconds()) == 1
        assert set(store.objects) == {ASIDE + KEY}
        store.time += GRACE
        assert await settle(store, nobody, grace_seconds=GRACE.total_seconds()) == 0
        assert not store.objects

    asyncio.run(story())
