"""What a runner learns of its own speed from what its child reports: a fold, without clock or I/O."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

from dreamforge.contracts.measured_times import SHAPES_MAX, MeasuredTimes

#: Runs that are remembered of each kind. A median of so few follows a change within four runs, and one slow run (its
#: first, which prepares kernels, or one beside another program) does not count.
RUNS_KEPT = 7
#: Digits of what is told: more are noise, and a heartbeat is sent every second.
DIGITS = 4

Runs = deque[float]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class RunTimes:
    """The last runs of each shape and the last loads of each model; what was used longest ago is forgotten first."""

    #: False while the device is slower than usual: what is measured then is no measure of later renders.
    counts: bool = True
    _steps: dict[str, dict[int, Runs]] = field(default_factory=dict)
    _beside: dict[str, Runs] = field(default_factory=dict)
    _after: dict[str, Runs] = field(default_factory=dict)
    _loads: dict[str, Runs] = field(default_factory=dict)
    _rates: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RUNS_KEPT))

    def resume(self, before: MeasuredTimes) -> None:
        """What was measured by an earlier process on this device: it counts as one run of each."""
        for shape, by_size in before.steps.items():
            self._steps[shape] = {size: _run(seconds) for size, seconds in by_size.items()}
        for kept, medians in ((self._beside, before.beside), (self._after, before.after), (self._loads, before.loads)):
            kept.update({name: _run(seconds) for name, seconds in medians.items()})
        if before.load_bytes_per_second is not None:
            self._rates.append((before.load_bytes_per_second, 1.0))

    def stepped(self, shape: str, together: int, seconds: float) -> None:
        """A run of so many images took `seconds` an image and step."""
        if not self.counts:
            return
        by_size = _latest(self._steps, shape, {})
        by_size.setdefault(together, _run()).append(seconds)

    def finished(self, shape: str, beside_seconds: float, after_seconds: float) -> None:
        """An image took the device so long beside its steps, and so long once that was done with it."""
        if self.counts:
            _latest(self._beside, shape, _run()).append(max(0.0, beside_seconds))
            _latest(self._after, shape, _run()).append(after_seconds)

    def loaded(self, model_id: str, seconds: float, size_bytes: int) -> None:
        """A model was loaded."""
        _latest(self._loads, model_id, _run()).append(seconds)
        self._rates.append((size_bytes, seconds))

    def beside_seconds(self, shape: str) -> float:
        """What an image of a shape takes beside its steps, until it is stored; 0 before the first."""
        return sum(median(runs[shape]) for runs in (self._beside, self._after) if shape in runs)

    @property
    def measured(self) -> MeasuredTimes:
        """For the heartbeat."""
        return MeasuredTimes(
            steps={shape: _medians(by_size) for shape, by_size in self._steps.items()},
            beside=_medians(self._beside),
            after=_medians(self._after),
            loads=_medians(self._loads),
            load_bytes_per_second=self._bytes_per_second(),
        )

    def _bytes_per_second(self) -> float | None:
        """Over all of the last loads, so that the large ones count by their size; None before the first."""
        total_bytes, seconds = sum(size for size, _ in self._rates), sum(each for _, each in self._rates)
        return _rounded(total_bytes / seconds) if total_bytes and seconds else None


def _run(*seconds: float) -> Runs:
    return deque(seconds, maxlen=RUNS_KEPT)


def _latest(kept: dict[str, V], name: str, new: V) -> V:
    """The entry of that name, from now on the one that was used last; of SHAPES_MAX others the oldest goes."""
    entry = kept[name] = kept.pop(name, new)
    if len(kept) > SHAPES_MAX:
        del kept[next(iter(kept))]
    return entry


def _medians(runs: Mapping[K, Runs]) -> dict[K, float]:
    return {name: _rounded(median(seconds)) for name, seconds in runs.items()}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
