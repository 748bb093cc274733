"""Looks again what lies in the models folder when it or the registry changed: a new model needs no restart.

The registry alone would not do: a model that is registered already may come to the disk of one more runner.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dreamforge.contracts.log.streams import MODELS
from dreamforge.contracts.log.subjects import MODEL_CHANGES
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.service.tasks import run_until_first

#: Between two glances at the folder: names, sizes and times, no content. Our choice: soon, and not felt.
GLANCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ModelsWatcher:
    """`look` is awaited once nothing can be missed any more, and after every batch of changes.

    Our own changes are among them: it must be cheap when nothing is new.
    """

    bus: Bus
    look: Callable[[], Awaitable[None]]
    #: Whether the folder is another than when we looked. Blocking.
    changed: Callable[[], bool]
    glance_seconds: float = GLANCE_SECONDS

    async def run(self) -> None:
        """Until cancelled. Errors: LogReplaced."""
        await run_until_first(self._follow(), self._glance())

    async def _glance(self) -> None:
        while True:
            await asyncio.sleep(self.glance_seconds)
            if await asyncio.to_thread(self.changed):
                await self.look()

    async def _follow(self) -> None:
        """After a break it goes on from where it was."""
        async for _ in Follower(self.bus, MODELS.name, filters=MODEL_CHANGES, new_only=True).batches():
            await self.look()
