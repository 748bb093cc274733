"""How well promises are kept: what attempts really took, beside what was promised. A fold, without clock or I/O."""

from collections import deque
from dataclasses import dataclass, field
from statistics import quantiles

#: Attempts that are remembered of a runner, and of the fleet.
RUNNER_KEPT, FLEET_KEPT = 64, 256
#: Runners that are remembered: those that ended an attempt last.
RUNNERS_MAX = 1024
#: From so many attempts on, a runner is judged by its own; before, a nine-tenths range is half as long again.
ATTEMPTS_MIN = 8
USUAL_RATIOS = (1.0, 1.5)


@dataclass(frozen=True, slots=True)
class KeptPromise:
    """An attempt that succeeded, in seconds from its assignment to its end."""

    runner_id: str
    promised_seconds: float
    real_seconds: float

    @property
    def ratio(self) -> float:
        """Above 1: later than promised."""
        return self.real_seconds / max(self.promised_seconds, 1e-6)


@dataclass(slots=True)
class Calibration:
    """The last attempts of each runner."""

    _ratios: dict[str, deque[float]] = field(default_factory=dict)
    _errors: deque[float] = field(default_factory=lambda: deque(maxlen=FLEET_KEPT))

    def ended(self, kept: KeptPromise) -> None:
        """An attempt succeeded."""
        ratios = self._ratios.pop(kept.runner_id, None) or deque(maxlen=RUNNER_KEPT)
        ratios.append(kept.ratio)
        self._ratios[kept.runner_id] = ratios
        if len(self._ratios) > RUNNERS_MAX:
            del self._ratios[next(iter(self._ratios))]
        self._errors.append(abs(kept.real_seconds - kept.promised_seconds))

    def ratios(self, runner_id: str) -> tuple[float, float]:
        """Real time by promised time on a runner: the median, and what nine of ten attempts stay below."""
        ratios = self._ratios.get(runner_id, ())
        return _p50_p90(ratios) if len(ratios) >= ATTEMPTS_MIN else USUAL_RATIOS

    @property
    def error_seconds(self) -> tuple[float, float]:
        """How far the fleet's promises were from the truth: the median, and what nine of ten stay below."""
        return _p50_p90(self._errors) if len(self._errors) > 1 else (0.0, 0.0)


def _p50_p90(values: "deque[float] | tuple[float, ...]") -> tuple[float, float]:
    """Two quantiles, of values that were seen."""
    tenths = quantiles(values, n=10, method="inclusive")
    return tenths[4], tenths[8]
