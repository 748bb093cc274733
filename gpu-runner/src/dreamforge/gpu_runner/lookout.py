"""Looks again what lies in the models folder whenever the registry changed: a new model needs no restart."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dreamforge.contracts.events import ModelRegistered, ModelRemoved
from dreamforge.contracts.streams import MODELS
from dreamforge.runtime.bus import Bus
from dreamforge.runtime.follow import Follower

CHANGES = tuple(f"forge.models.*.{event.TOKEN}" for event in (ModelRegistered, ModelRemoved))


@dataclass(frozen=True, slots=True)
class Lookout:
    """`look` is awaited once nothing can be missed any more, and after every batch of changes.

    Our own changes are among them: it must be cheap when nothing is new.
    """

    bus: Bus
    look: Callable[[], Awaitable[None]]

    async def run(self) -> None:
        """Follow until cancelled; after a break from where it was."""
        async for _ in Follower(self.bus, MODELS.name, filters=CHANGES, new_only=True).batches():
            await self.look()
