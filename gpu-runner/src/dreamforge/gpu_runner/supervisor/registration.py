"""Records in the log that this runner started or stopped, and which models it has."""

from dataclasses import dataclass

from loguru import logger

from dreamforge.contracts.errors import DependencyAway, VersionConflict
from dreamforge.contracts.events import Event
from dreamforge.contracts.installation_events import RunnerEvent
from dreamforge.contracts.log import subjects
from dreamforge.contracts.model_registry import ModelState, RegisterModel
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.runtime import clock
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.aggregate import MODEL
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.service import retry


@dataclass(frozen=True, slots=True)
class RunnerRegistration:
    """Appends to the FLEET and MODELS streams, each at the version it was read at."""

    bus: Bus
    store: EventStore

    async def runner(self, runner_id: str, event: RunnerEvent) -> None:
        """Append a fact about this runner. Waits while NATS is unavailable."""

        async def append() -> None:
            _, version = await self._read("FLEET", event, runner_id)
            await self.store.append(runner_id, [event], expected=version)

        await retry.until_it_works("the log", append, DependencyAway, VersionConflict)

    async def model(self, descriptor: ModelDescriptor) -> bool:
        """Offer a model to the registry; False if a person removed it, or registered other files under its id.

        Waits while NATS is unavailable.
        """
        command = RegisterModel(clock.now(), descriptor)

        async def offer() -> ModelState:
            before = (await self.store.read(MODEL, descriptor.model_id)).state.descriptor
            outcome = await self.store.handle(MODEL, descriptor.model_id, command)
            if outcome.events:
                logger.info("model {!r} is registered as it is described here", descriptor.model_id)
                _warn_of_other_files(before, descriptor)
            return outcome.state

        state = await retry.until_it_works("the log", offer, DependencyAway, VersionConflict)
        return state.available and state.descriptor is not None and state.descriptor.digest == descriptor.digest

    async def _read(self, stream: str, event: Event, entity_id: str) -> tuple[list[LogMessage], int]:
        stored = await direct_get.last_of_each(self.bus, stream, subjects.aggregate_filter(event, entity_id))
        return stored, max((message.sequence for message in stored), default=0)


def _warn_of_other_files(before: ModelDescriptor | None, now: ModelDescriptor) -> None:
    """Two runners with other files under one id would replace each other's description at every look."""
    if before is not None and before.digest != now.digest:
        logger.warning(
            "model {!r} was registered with other files (digest {}, here {}): use one id for one set of files",
            now.model_id,
            before.digest,
            now.digest,
        )
