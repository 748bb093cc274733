"""The runners that are open when a plan begins, by the least that a job of a model takes on each. Pure.

Those that hold the model come by their steps, the others by how long they load it. What loads a model is as fast for
every model, but where a runner has measured the load itself: so most runners are sorted once for all models.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.ranking import Order


class LoadOrders:
    """Of one plan. What it gives to runners makes them worse, but for those that `Timelines.sooner` tells."""

    def __init__(self, index: FleetIndex, held_of: Callable[[str], frozenset[str]]) -> None:
        self._index, self._held_of = index, held_of
        self._held: dict[str, set[str]] = defaultdict(set)
        self._told: dict[str, dict[str, float]] = defaultdict(dict)
        self._by_rate: list[tuple[float, str]] | None = None
        self._orders: dict[str, tuple[Order, Order]] = {}

    def of(self, model_id: str) -> tuple[Order, Order]:
        """Those that hold a model, and those without it that have measured its load: each with the seconds of its load
        and the least of a step of a pixel.
        """
        if (orders := self._orders.get(model_id)) is None:
            self._read_once()
            orders = self._orders[model_id] = self._made(model_id)
        return orders

    def others(self, model_id: str) -> Iterator[tuple[float, float, str]]:
        """The others that can load it, found as far as they are asked for: most plans look at few."""
        index, model_ids = self._index, self._index.model_ids
        holding, told = self._held.get(model_id, set()), self._told.get(model_id, {})
        step_seconds = index.times.least_of(model_id).seconds_a_pixel[0]
        size_bytes = index.models[model_id].vram.resident_bytes
        for seconds_a_byte, name in self._read_once():
            if name not in holding and name not in told and model_id in model_ids[name]:
                yield size_bytes * seconds_a_byte, step_seconds, name

    def _read_once(self) -> list[tuple[float, str]]:
        if self._by_rate is None:
            self._by_rate = self._read()
        return self._by_rate

    def _read(self) -> list[tuple[float, str]]:
        """Which models each holds, or has measured the load of; the seconds a byte that each loads otherwise."""
        index, by_rate = self._index, []
        for name in index.open:
            loads, seconds_a_byte = index.times.loading(name)
            by_rate.append((seconds_a_byte, name))
            for model_id in self._held_of(name):
                self._held[model_id].add(name)
            for model_id, seconds in loads.items():
                self._told[model_id][name] = seconds
        return sorted(by_rate)

    def _made(self, model_id: str) -> tuple[Order, Order]:
        index, least = self._index, self._index.times.least_of(model_id)
        model_ids, step_seconds = index.model_ids, least.seconds_a_pixel[0]
        holding, told = self._held.get(model_id, set()), self._told.get(model_id, {})
        held = [(0.0, least.step_seconds_of(name), name) for name in holding if model_id in model_ids[name]]
        measured = [
            (seconds, step_seconds, name)
            for name, seconds in told.items()
            if name not in holding and model_id in model_ids[name]
        ]
        return sorted(held), sorted(measured)
