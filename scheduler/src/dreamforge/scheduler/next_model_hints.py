"""Tells runners which model they will need next: each once, until it changes."""

from dataclasses import dataclass, field

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.fleet import NextModel
from dreamforge.contracts.log.subjects import next_model_of
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.service.background import BackgroundTasks
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.next_models import next_models
from dreamforge.scheduler.planning.queue import Queue

#: A load takes seconds, and the fleet may be large: no need to look at each heartbeat.
INTERVAL_SECONDS = 1.0


@dataclass(slots=True)
class NextModelHints:
    """What each runner instance was told last."""

    bus: Bus
    background: BackgroundTasks
    _told: dict[str, tuple[str, str]] = field(default_factory=dict)
    _looked_at: float = 0.0

    def send(self, index: FleetIndex, queue: Queue) -> None:
        """Tell what changed, without waiting for it; at most once in INTERVAL_SECONDS, as it is called again soon."""
        if (now := clock.monotonic_seconds()) < self._looked_at + INTERVAL_SECONDS:
            return
        self._looked_at = now
        instances = {name: load.heartbeat.instance_id for name, load in index.loads.items()}
        wanted = next_models(index, queue)
        told = {runner_id: (instances[runner_id], model_id) for runner_id, model_id in wanted.items()}
        for runner_id, model_id in wanted.items():
            if self._told.get(runner_id) != told[runner_id]:
                self.background.spawn(self._send(runner_id, model_id), f"next model of {runner_id}")
        self._told = told

    async def _send(self, runner_id: str, model_id: str) -> None:
        try:
            await self.bus.publish(next_model_of(runner_id), NextModel(model_id=model_id).model_dump_json().encode())
        except DependencyAway:
            return  # it reads the model when it needs it
