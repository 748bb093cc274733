"""Tells the log that this runner came or went, and which models can be asked for."""

from dataclasses import dataclass

from loguru import logger

from dreamforge.contracts import subjects
from dreamforge.contracts.envelope import unseal
from dreamforge.contracts.errors import DependencyAway, MalformedEvent, VersionConflict
from dreamforge.contracts.events import Event, ModelRegistered, RunnerEvent
from dreamforge.contracts.models import ModelDescriptor
from dreamforge.runtime import clock, directget, retry
from dreamforge.runtime.bus import Bus
from dreamforge.runtime.directget import Stored
from dreamforge.runtime.eventstore import EventStore


@dataclass(frozen=True, slots=True)
class Registry:
    """Appends to the FLEET and MODELS streams, each at the version it was read at."""

    bus: Bus
    store: EventStore

    async def runner(self, runner_id: str, event: RunnerEvent) -> None:
        """Append a fact about this runner. Waits while NATS is away."""

        async def append() -> None:
            _, version = await self._read("FLEET", event, runner_id)
            await self.store.append(runner_id, [event], expected=version)

        await retry.until_it_works("the log", append, DependencyAway, VersionConflict)

    async def model(self, descriptor: ModelDescriptor) -> None:
        """Register a model, unless it is registered just so. Waits while NATS is away."""
        event = ModelRegistered(at=clock.now(), descriptor=descriptor)

        async def append() -> None:
            stored, version = await self._read("MODELS", event, descriptor.model_id)
            known = _descriptor(stored)
            if known == descriptor:
                return
            if known is not None:
                logger.warning("model {!r} was registered otherwise before; this is now the valid one", known.model_id)
            await self.store.append(descriptor.model_id, [event], expected=version)

        await retry.until_it_works("the log", append, DependencyAway, VersionConflict)

    async def _read(self, stream: str, event: Event, entity_id: str) -> tuple[list[Stored], int]:
        stored = await directget.last_of_each(self.bus, stream, subjects.aggregate_filter(event, entity_id))
        return stored, max((message.sequence for message in stored), default=0)


def _descriptor(stored: list[Stored]) -> ModelDescriptor | None:
    for message in reversed(stored):
        try:
            recorded = unseal(message.subject, message.headers, message.data, sequence=message.sequence)
        except MalformedEvent as error:
            logger.warning("ignoring: {}", error)
            continue
        if isinstance(recorded.event, ModelRegistered):
            return recorded.event.descriptor
    return None
