"""The model aggregate in the log: read it, decide, append at the version it was read at."""

from dataclasses import dataclass

from dreamforge.contracts.errors import VersionConflict
from dreamforge.contracts.events import ModelEvent
from dreamforge.contracts.log.streams import MODELS
from dreamforge.contracts.model_registry import ModelCommand, ModelState, decide_model, evolve_model
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import MAX_DECISIONS, EventStore
from dreamforge.runtime.log.newest_readable import newest_readable


@dataclass(frozen=True, slots=True)
class ModelLog:
    """Models by id, through the same store as every other fact."""

    bus: Bus
    store: EventStore

    async def load(self, model_id: str) -> tuple[ModelState, int]:
        """One model as the log has it, and its version. Errors: DependencyAway."""
        found, version = await newest_readable(self.bus, MODELS.name, subject_filter(model_id))
        state = ModelState()
        for _, recorded in found:
            if isinstance(recorded.event, ModelEvent):
                state = evolve_model(state, recorded.event)
        return state, version

    async def execute(self, model_id: str, command: ModelCommand) -> tuple[ModelState, tuple[ModelEvent, ...]]:
        """Load, decide, append; on a conflict again, bounded. The state afterwards, and what was appended.

        Errors: what `decide_model` raises, DependencyAway, VersionConflict after MAX_DECISIONS races in a row.
        """
        for _ in range(MAX_DECISIONS):
            state, version = await self.load(model_id)
            events = decide_model(state, command)
            if not events:
                return state, ()
            try:
                await self.store.append(model_id, events, expected=version)
            except VersionConflict:
                continue
            for event in events:
                state = evolve_model(state, event)
            return state, events
        raise VersionConflict(subject=subject_filter(model_id), expected_version=version)


def subject_filter(model_id: str) -> str:
    """All events of one model: the filter of its version and of its fold.

    >>> subject_filter("forge-shapes")
    'forge.models.forge-shapes.>'
    """
    return f"forge.models.{model_id}.>"
