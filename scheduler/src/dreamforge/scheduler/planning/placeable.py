"""The shapes of which a plan may still take jobs: each is judged when it is first asked about. Pure."""

from dataclasses import dataclass, field

from dreamforge.contracts.placement import Needs
from dreamforge.scheduler.planning.capacity import FleetCapacity


@dataclass(slots=True)
class PlaceableShapes:
    """Capacity only shrinks while planning, so what no runner can take is not asked again."""

    capacity: FleetCapacity
    _known: dict[Needs, bool] = field(default_factory=dict)

    def __contains__(self, shape: object) -> bool:
        known = self._known.get(shape)  # type: ignore[call-overload]  # any other object is not in it
        if known is None and isinstance(shape, Needs):
            known = self._known[shape] = self.capacity.can_take(shape)
        return bool(known)

    def discard(self, shape: Needs) -> None:
        """Take no more jobs of a shape."""
        self._known[shape] = False
