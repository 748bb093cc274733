"""The buffer between reading and writing: what arrives while a batch is written becomes the next batch."""

import asyncio
from collections.abc import Sequence

from dreamforge.projector.folding.decode import Decoded


class BatchBuffer:
    """Holds about `limit` messages and then makes the reader wait; `take` returns all of them at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: list[Decoded] = []
        self._pending: int | None = None
        self._changed = asyncio.Condition()

    async def put(self, items: Sequence[Decoded], pending: int) -> None:
        """Add what was read; `pending` messages were still behind it."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._items) < self._limit)
            self._items.extend(items)
            self._pending = pending
            self._changed.notify_all()

    async def take(self) -> tuple[list[Decoded], int]:
        """Everything that was put since the last time, at least one (perhaps empty) batch."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._pending is not None)
            items, pending = self._items, self._pending
            assert pending is not None
            self._items, self._pending = [], None
            self._changed.notify_all()
            return items, pending
