"""Which models this runner offers: those on its disk that the registry has and that no person removed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from loguru import logger

from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.gpu_runner.supervisor.local_models import LocalModel, Seen, changed, find_models
from dreamforge.gpu_runner.supervisor.registration import RunnerRegistration


@dataclass(slots=True)
class ModelOffer:
    """Looks at the models folder and keeps what was found. `on_offer` gets the ids that are offered from now on."""

    settings: RunnerSettings
    registration: RunnerRegistration
    on_offer: Callable[[frozenset[str]], None]
    #: Every model on the disk, by id; the same mapping for as long as the runner lives.
    models: dict[str, LocalModel] = field(default_factory=dict)
    offered_ids: frozenset[str] = frozenset()
    _seen: Seen = field(default_factory=dict)
    #: One look into the models folder at a time.
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Models that are here and that a person removed from the registry.
    _removed: set[str] = field(default_factory=set)

    @property
    def offered(self) -> tuple[LocalModel, ...]:
        """The models that jobs can ask this runner for."""
        return tuple(model for name, model in self.models.items() if name in self.offered_ids)

    async def discover(self, *, build: bool = False) -> bool:
        """Look at the disk and register what is there; whether anything is other than before.

        `build`: make the tiny model where there is no other. Waits while NATS is unavailable.
        """
        async with self._looking:
            before = (self.offered_ids, dict(self.models))
            found = await find_models(self.settings, self._seen, build=build)
            offered = [name for name, model in found.items() if await self.registration.model(model.descriptor)]
            for model_id in self.models.keys() - found.keys():
                del self.models[model_id]
            self.models.update(found)
            self._tell_removed(found.keys() - set(offered))
            self.offered_ids = frozenset(offered)
            self.on_offer(self.offered_ids)
            return (self.offered_ids, self.models) != before

    def is_outdated(self) -> bool:
        """Whether another look would find other folders; False while one is under way. Blocking, and cheap."""
        return not self._looking.locked() and changed(self.settings, self._seen)

    def _tell_removed(self, removed: set[str]) -> None:
        if new := removed - self._removed:
            names = ", ".join(sorted(new))
            logger.warning(
                "not offered, since removed by hand or registered with other files: {}"
                " (`dreamforge models add FOLDER --replace` brings it back)",
                names,
            )
        self._removed = removed
