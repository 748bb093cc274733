"""The registry as the command speaks to it: each change is decided, and appended at the version it was decided on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dreamforge.cli.client.event_log import connect_bus
from dreamforge.cli.client.operator import operator
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.installation_events import ModelEvent
from dreamforge.contracts.log.streams import MODELS
from dreamforge.contracts.log.subjects import MODELS_ALL, entity_of
from dreamforge.contracts.model_registry import ModelCommand, ModelState
from dreamforge.contracts.request.errors import UnknownModel
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.aggregate import MODEL
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore

SOURCE = "/dreamforge/cli"


@dataclass(frozen=True, slots=True)
class ModelRegistryClient:
    """Reads and changes the model registry (stream MODELS) over one connection."""

    bus: Bus
    store: EventStore

    async def state(self, model_id: str) -> ModelState:
        """One model. Errors: DependencyAway."""
        return (await self.store.read(MODEL, model_id)).state

    async def execute(self, model_id: str, command: ModelCommand) -> tuple[ModelEvent, ...]:
        """Execute a command; its events. Errors: UnknownModel with the known ids, Conflict, DependencyAway."""
        try:
            return (await self.store.handle(MODEL, model_id, command)).events
        except UnknownModel:
            raise await self.unknown_model(model_id) from None

    async def unknown_model(self, model_id: str, also: tuple[str, ...] = ()) -> UnknownModel:
        """The error for an unknown id, with the known ones."""
        stored = await direct_get.last_of_each(self.bus, MODELS.name, MODELS_ALL)
        named = sorted({entity_of(message.subject) for message in stored})
        known = [name for name in named if (await self.state(name)).available]
        return UnknownModel(model_id=model_id, known=tuple(sorted({*known, *also})))


@asynccontextmanager
async def registry_client(settings: CliSettings) -> AsyncIterator[ModelRegistryClient]:
    """A client for one command. Errors: DependencyAway."""
    async with connect_bus(settings) as bus:
        store = EventStore(bus, SOURCE, operator())
        try:
            yield ModelRegistryClient(bus, store)
        finally:
            await store.close()
