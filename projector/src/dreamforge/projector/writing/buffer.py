"""The buffer between reading and writing: what arrives while a batch is written becomes the next batches."""

import asyncio
from collections.abc import Sequence

from dreamforge.projector.folding.decode import Decoded


class BatchBuffer:
    """Holds about `batches` batches of `limit` messages and then makes the reader wait."""

    def __init__(self, limit: int, batches: int = 1) -> None:
        self._limit, self._held = limit, limit * batches
        self._items: list[Decoded] = []
        self._pending: int | None = None
        self._taken_up_to = 0
        self._changed = asyncio.Condition()

    async def put(self, items: Sequence[Decoded], pending: int) -> None:
        """Add what was read; `pending` messages were still behind it."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._items) < self._held)
            self._items.extend(items)
            self._pending = pending
            self._changed.notify_all()

    async def take(self) -> tuple[list[Decoded], int]:
        """What was put since the last time, at most `limit` messages, perhaps none; and how many are behind them."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._pending is not None)
            items, self._items = self._items[: self._limit], self._items[self._limit :]
            pending = self._pending
            assert pending is not None
            if items:
                self._taken_up_to = items[-1].message.sequence
            if not self._items:
                self._pending = None
            self._changed.notify_all()
            return items, pending + len(self._items)

    def whole_batch_after(self, sequence: int) -> list[Decoded]:
        """What `take` will return next, if it is certain because it has `limit` messages and follows this sequence."""
        certain = len(self._items) >= self._limit and self._taken_up_to == sequence
        return self._items[: self._limit] if certain else []
