"""What the runners of one device have measured together: for each shape, the median of their paces.

A value that evolves: a runner's paces are added and removed, and a median is found again when it is asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from dreamforge.scheduler.planning.measured_pace import Pace, SizeOfModel, nearest_pace, parsed_size


@dataclass(slots=True)
class DeviceTimes:
    """`version` changes with every pace."""

    version: int = 0
    _paces: dict[str, dict[str, Pace]] = field(default_factory=dict)
    _of_model: dict[str, set[str]] = field(default_factory=dict)
    _medians: dict[str, Pace] = field(default_factory=dict)

    def put(self, shape: str, runner_id: str, pace: Pace | None) -> None:
        """What a runner of the device has measured of a shape; None: nothing any more."""
        self.version += 1
        self._medians.pop(shape, None)
        paces, model_id = self._paces.setdefault(shape, {}), parsed_size(shape).model_id
        if pace is not None:
            paces[runner_id] = pace
            self._of_model.setdefault(model_id, set()).add(shape)
            return
        paces.pop(runner_id, None)
        if not paces:
            del self._paces[shape]
            self._of_model.get(model_id, set()).discard(shape)

    def has_model(self, model_id: str) -> bool:
        """Whether one of its runners has measured any size of a model."""
        return bool(self._of_model.get(model_id))

    def nearest(self, size: SizeOfModel) -> Pace | None:
        """The pace of a size on this device, or that of the nearest size of its model."""
        shapes = self._of_model.get(size.model_id, ())
        return nearest_pace(size, ((parsed_size(shape), self._median(shape)) for shape in shapes))

    def ratio(self, other: "DeviceTimes") -> float | None:
        """How many times as long it takes as another, over the shapes that both have measured; None: none."""
        ratios = [
            self._median(shape).run_seconds(1, 1.0) / other._median(shape).run_seconds(1, 1.0)
            for shape in self._shared(other)
        ]
        return median(ratios) if ratios else None

    def _shared(self, other: "DeviceTimes") -> Iterator[str]:
        return (shape for shape in self._paces if shape in other._paces)

    def _median(self, shape: str) -> Pace:
        if (found := self._medians.get(shape)) is None:
            by_pace = sorted(self._paces[shape].items(), key=lambda item: (item[1].run_seconds(1, 1.0), item[0]))
            found = self._medians[shape] = by_pace[len(by_pace) // 2][1]
        return found
